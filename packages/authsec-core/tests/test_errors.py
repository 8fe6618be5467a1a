"""The tree of errors: stable codes, and errors that can be raised again, pickled and copied."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re
from collections.abc import Callable, Iterator

import pytest

from authsec_core import errors
from authsec_core.errors import AuthSecError

ARGUMENTS: dict[str, object] = {
    "retry_after": 3.5,
    "reason": "not_delegated",
    "status": 403,
    "missing": frozenset({"read:metrics"}),
}
CODES = {
    "AuthSecError": "authsec_error",
    "AuthorityUnreachableError": "authority_unreachable",
    "BadReplyError": "bad_reply",
    "BadSignatureError": "token_bad_signature",
    "ConfigurationError": "configuration",
    "DelegationRefusedError": "delegation_refused",
    "DownstreamDeniedError": "downstream_denied",
    "DownstreamError": "downstream_error",
    "DownstreamUnavailableError": "downstream_unavailable",
    "EndpointRefusedError": "endpoint_refused",
    "ExpiredTokenError": "token_expired",
    "InsecureTransportError": "insecure_transport",
    "MalformedTokenError": "token_malformed",
    "NotYetValidError": "token_not_yet_valid",
    "ProofUnavailableError": "proof_unavailable",
    "RevokedTokenError": "token_revoked",
    "ScopeNotGrantedError": "scope_not_granted",
    "ScopeRefusedError": "scope_refused",
    "TokenRejectedError": "token_rejected",
    "TokenUnavailableError": "token_unavailable",
    "VerificationUnavailableError": "verification_unavailable",
    "WrongAudienceError": "token_wrong_audience",
    "WrongIssuerError": "token_wrong_issuer",
    "VaultError": "vault_error",
    "VaultUnauthorizedError": "vault_unauthorized",
    "VaultScopeDeniedError": "vault_scope_denied",
    "SecretNotFoundError": "secret_not_found",
    "ApprovalRequiredError": "approval_required",
    "VaultTokenExhaustedError": "vault_token_exhausted",
    "VaultConflictError": "vault_conflict",
    "VaultRequestError": "vault_bad_request",
    "VaultRateLimitedError": "vault_rate_limited",
    "VaultUnavailableError": "vault_unavailable",
    "VaultInsecureTransportError": "vault_insecure_transport",
    "VaultReplyError": "vault_bad_reply",
}
PASSING = {
    "AuthorityUnreachableError",
    "DownstreamUnavailableError",
    "VerificationUnavailableError",
    "VaultRateLimitedError",
    "VaultUnavailableError",
}


def _tree(kind: type[AuthSecError] = AuthSecError) -> Iterator[type[AuthSecError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


def _made(kind: type[AuthSecError]) -> AuthSecError:
    wanted = inspect.signature(kind).parameters
    return kind("what happened: what to do", **{name: ARGUMENTS[name] for name in ARGUMENTS if name in wanted})


everyone = pytest.mark.parametrize("kind", list(_tree()), ids=lambda kind: kind.__name__)


def test_the_codes_never_change() -> None:
    """Programs and models compare them: a new class adds a row here, and no row is ever edited."""
    assert {kind.__name__: kind.code for kind in _tree()} == CODES
    assert len(set(CODES.values())) == len(CODES)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in CODES.values())


def test_only_what_can_pass_is_retryable() -> None:
    """Everything else needs somebody to mend something first."""
    assert {kind.__name__ for kind in _tree() if kind.retryable} == PASSING


def test_every_class_is_exported() -> None:
    """Whoever catches one must be able to name it."""
    assert sorted(kind.__name__ for kind in _tree()) == sorted(errors.__all__)


def test_the_drawing_shows_the_tree() -> None:
    """The module opens with the whole tree, each class below its base."""
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.split("```")[1].splitlines():
        if match := re.match(r"([│├└─ ]*)(\w+)", line):
            depth = len(match[1].rstrip())
            above = [(there, name) for there, name in above if there < depth]
            drawn[match[2]] = above[-1][1] if above else ""
            above.append((depth, match[2]))
    assert drawn == {kind.__name__: "" if kind is AuthSecError else kind.__mro__[1].__name__ for kind in _tree()}


@everyone
def test_no_error_shadows_a_builtin(kind: type[AuthSecError]) -> None:
    """`except TimeoutError` in a user's program must not catch ours, nor theirs be hidden."""
    assert not hasattr(builtins, kind.__name__)
    assert kind.__mro__[-4:] == (AuthSecError, Exception, BaseException, object)


copies: dict[str, Callable[[AuthSecError], AuthSecError]] = {
    "again": lambda error: error.again(),
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 -- our own bytes
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@everyone
@pytest.mark.parametrize("how", copies)
def test_a_copy_says_the_same(kind: type[AuthSecError], how: str) -> None:
    """Every waiter raises an error of its own, and worker processes send theirs home: nothing of it may be lost."""
    error = _made(kind)
    twin = copies[how](error)
    assert twin is not error
    assert type(twin) is kind
    assert (twin.args, twin.message, str(twin)) == (error.args, error.message, str(error))
    assert vars(twin) == vars(error)


@everyone
def test_another_one_has_no_traceback(kind: type[AuthSecError]) -> None:
    """It keeps the cause, and neither the frames nor the context in which the first one was raised."""
    try:
        try:
            raise KeyError("unrelated")
        except KeyError:
            raise _made(kind) from OSError("cause")
    except AuthSecError as error:
        twin = error.again()
        cause = error.__cause__
    assert twin.__traceback__ is None
    assert twin.__context__ is None
    assert twin.__cause__ is cause


def test_what_is_noted_on_one_is_not_on_another() -> None:
    """A caller may add what it knows to its own error; the others' callers must not read it."""
    error = _made(AuthSecError)
    twin = error.again()
    vars(twin)["mine"] = "for user 7"
    assert "mine" not in vars(error)
    assert "mine" not in vars(error.again())
