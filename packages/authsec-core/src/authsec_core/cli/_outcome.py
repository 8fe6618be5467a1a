"""What a command came to, as values that can be shown to anybody. Pure: it prints nothing.

An outcome is a JSON document, from which tables are made too, and an exit code. `outcome` is the only way to make one,
and takes out the credentials that it is told of, wherever a hostile peer may have put them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from authsec_core.errors import (
    ApprovalRequiredError,
    AuthSecError,
    DelegationRefusedError,
    ProofUnavailableError,
    ScopeNotGrantedError,
    VaultRequestError,
)
from authsec_core.token import Mode, Secret
from authsec_core.wire import format_time

if TYPE_CHECKING:
    from authsec_core.config import AuthSecConfig

__all__ = [
    "Finding",
    "InputError",
    "Kind",
    "Launch",
    "Outcome",
    "Shown",
    "Status",
    "error_outcome",
    "input_outcome",
    "known_secrets",
    "outcome",
    "plain",
]

Status: TypeAlias = Literal["ok", "warn", "fail", "skip"]
Kind: TypeAlias = Literal["doctor", "token", "fetch", "secret", "secrets", "names", "done", "error"]
_REMOVED: Final = "[removed]"
_SHORTEST: Final = 8  # characters of a secret that is looked for: a shorter one could be a word
_SHORTEST_PART: Final = 16  # ... and of a part of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        check: A stable name, for programs.
        message: One line.
        mend: What to do next; never empty for a warning or a failure.
    """

    check: str
    status: Status
    message: str
    mend: str = ""

    def __post_init__(self) -> None:
        if self.status in {"warn", "fail"} and not self.mend:
            raise ValueError("a warning or a failure says what to do next")

    def document(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


class InputError(Exception):
    """What was typed, piped in or named cannot be used; the message says which, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The one secret that somebody asked to see, on its way to stdout.

    Attributes:
        member: What it is called in JSON.
    """

    member: str
    value: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A program that shall take this one's place.

    Attributes:
        file: Where it lies.
        argv: Its name as it was typed, and its arguments.
        environ: All of its environment.
    """

    file: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one command came to. Made by `outcome`.

    Attributes:
        shown: A secret that is printed with it.
        launch: What is to be done when all has been printed.
    """

    kind: Kind
    document: Mapping[str, Any]
    exit_code: int
    shown: Shown | None = None
    launch: Launch | None = None

    @property
    def whole(self) -> Mapping[str, Any]:
        """The document, and in it the secret that somebody asked to see."""
        return self.document if self.shown is None else {**self.document, self.shown.member: self.shown.value()}


def outcome(
    kind: Kind,
    document: Mapping[str, Any],
    *,
    failed: bool,
    secrets: Iterable[Secret],
    shown: Shown | None = None,
    launch: Launch | None = None,
) -> Outcome:
    """Return the outcome with `document`, without the `secrets` and every part of them that matters."""
    try:
        # Indented, because that takes the most stack: what passes here can be printed in every form.
        text = json.dumps(document, indent=1, allow_nan=False)
    except (RecursionError, ValueError):  # too deep, or a number like 1e999, for which JSON has no form
        return Outcome(kind="error", document=_TOO_DEEP, exit_code=1)
    for secret in secrets:
        for part in _parts(secret()):
            text = text.replace(json.dumps(part)[1:-1], _REMOVED)
    return Outcome(kind=kind, document=json.loads(text), exit_code=int(failed), shown=shown, launch=launch)


def error_outcome(error: AuthSecError, mode: Mode | None, *, secrets: Iterable[Secret]) -> Outcome:
    """Return the outcome of a command that could not do what it was asked."""
    document: dict[str, Any] = {
        "status": "error",
        "mode": mode,
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if isinstance(error, DelegationRefusedError):
        document["reason"] = error.reason
    if isinstance(error, ScopeNotGrantedError):
        document["missing"] = sorted(error.missing)
    if isinstance(error, ApprovalRequiredError):
        document["approval_id"] = error.approval_id
        document["good_from"] = None if error.good_from is None else format_time(error.good_from)
    if isinstance(error, VaultRequestError) and error.lines:
        document["lines"] = list(error.lines)
    return outcome("error", document, failed=True, secrets=secrets)


def input_outcome(error: InputError, mode: Mode | None) -> Outcome:
    """Return the outcome of a command that could not do it with what it was given."""
    document = {"status": "error", "mode": mode, "code": "input", "message": error.message, "retryable": False}
    return outcome("error", document, failed=True, secrets=())


def known_secrets(config: AuthSecConfig) -> tuple[Secret, ...]:
    """Return the proof that these settings hold, or name a file with."""
    if config.agent_key is not None:
        return (Secret(config.agent_key.get_secret_value()),)
    if config.workload_token_file is None:
        return ()
    from authsec_core._proof import WorkloadTokenFile

    try:
        headers = WorkloadTokenFile(config.workload_token_file).headers()
    except ProofUnavailableError:  # then nobody was sent it either
        return ()
    return tuple(Secret(value.removeprefix("Bearer ")) for value in headers.values())


def plain(text: str, *, lines: bool = False) -> str:
    r"""Return text that cannot take hold of a terminal: control and invisible characters are spelled out.

    Args:
        lines: Leave line ends as they are.

    >>> print(plain("a" + chr(27) + "[2Jb"))
    a\x1b[2Jb
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _parts(secret: str) -> Iterator[str]:
    if len(secret) >= _SHORTEST:
        yield secret
    for part in secret.split(".")[1:]:  # of a token its claims and signature, of a key its secret half
        if len(part) >= _SHORTEST_PART:
            yield part


_TOO_DEEP: Final[Mapping[str, Any]] = {
    "status": "error",
    "mode": None,
    "code": "too_deep",
    "message": "The answer is nested too deeply, or has numbers that are too large, to be shown.",
    "retryable": False,
}
