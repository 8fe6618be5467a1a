"""The secrets of the vault: read, list, write, rotate, import and delete them. Each time the answer is on record first.

A use of a counted token is counted in the transaction that decides, and only where something is disclosed or done.
What a list shows is read after that, by the access that the decision went by.
Values are sealed and opened here, on their way in and out; what is decided is in `reading` and `writing`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from authsec_core.vault_scopes import check_path
from authsec_server.errors import InvalidRequestError
from authsec_server.vault import stored
from authsec_server.vault.env_text import (
    MOST_NAMES,
    MOST_UNREAD,
    EnvText,
    EnvTextError,
    TooManyNamesError,
    read_env_text,
)
from authsec_server.vault.reach import seen_by
from authsec_server.vault.reading import ListQuestion, MayList, ReadQuestion
from authsec_server.vault.stored import StoredSecret
from authsec_server.vault.values import Listing, Secret, SecretInfo, Wanted, check_metadata, check_value
from authsec_server.vault.writing import DeleteQuestion, WriteAction, WriteQuestion

if TYPE_CHECKING:
    from authsec_server.audit.ledger import Change
    from authsec_server.db.engine import Database
    from authsec_server.vault.asking import Asker, Asking
    from authsec_server.vault.envelope import Envelope
    from authsec_server.vault.questions import VaultQuestion

__all__ = ["Imported", "Secrets"]

_RANDOM: Final = 32  # bytes of a value that is made up here

T = TypeVar("T")
Work = Callable[["Change", T], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a `.env` text.

    Attributes:
        keys: What was written, in the order of the text.
        skipped: How many names had no value, or one that a later line replaced.
    """

    keys: tuple[str, ...]
    skipped: int


class Secrets:
    """The secrets of one tenant. For one event loop.

    What all of its methods raise:
        RefusedError: The asker may not, or there is no such secret. It is in the audit; no use is counted.
        StorageUnavailableError: It could not be recorded: nothing was disclosed or done.
        InvalidRequestError: What was sent cannot be kept, or read.
    """

    def __init__(self, asking: Asking, database: Database, envelope: Envelope) -> None:
        self._asking, self._database, self._envelope = asking, database, envelope

    async def read(
        self, asker: Asker, path: str, *, version: int | None = None, or_list: bool = True
    ) -> Secret | Listing:
        """Return a secret, or what lies below, where there is no secret and the asker may see something of it.

        Args:
            version: Only that one of the secret; None is the latest.
            or_list: Whether the path may mean a namespace, as far as no version is asked for.

        Raises:
            UnsealError: It is not what was written.
        """
        may_list = or_list and version is None
        question = ReadQuestion(asker[0], path, version=version, may_list=may_list)
        found = await self._answer(question, asker)
        if isinstance(found, MayList):
            async with self._database.read() as connection:
                is_namespace = await stored.is_any_below(connection, path, seen_by(found.holder))
            # Asked once more, either way: so that what is on record is what was answered.
            return await (self.list(asker, path) if is_namespace else self.read(asker, path, or_list=False))
        info = found.info
        return Secret(info, self._envelope.open(info.path, info.version, found.kept))

    async def list(self, asker: Asker, namespace: str, *, after: str = "") -> Listing:
        """Return what the asker may see below a namespace, without values.

        Args:
            namespace: The empty text is the whole vault.
            after: The path that a page before ended with.
        """
        holder = await self._answer(ListQuestion(asker[0], namespace), asker)
        async with self._database.read() as connection:
            items, is_more = await stored.page_below(connection, namespace, seen_by(holder), after=after)
        return Listing(namespace, items, items[-1].path if is_more else None)

    async def write(self, asker: Asker, path: str, wanted: Wanted) -> SecretInfo:
        """Write a new version of a secret, or the first one. It is the latest for everyone who asks from now on."""
        (info,) = await self._write(asker, "vault.secret.write", path, {path: wanted})
        return info

    async def rotate(self, asker: Asker, path: str, value: str | None = None) -> Secret:
        """Write a new version of a secret that is there, by default with a random value of 256 bits, and return it."""
        wanted = Wanted(value=secrets.token_urlsafe(_RANDOM) if value is None else value)
        (info,) = await self._write(asker, "vault.secret.rotate", path, {path: wanted})
        return Secret(info, wanted.value)

    async def import_env(self, asker: Asker, namespace: str, content: str, like: Wanted) -> Imported:
        """Write a secret for each name of a `.env` text: all of them, or none.

        Args:
            like: What they are to be; its value counts for nothing.
        """
        text = _read(namespace, content)
        wanted = {f"{namespace}/{name}": replace(like, value=value) for name, value in text.values.items()}
        self._asking.charge(asker[1], len(wanted) - 1)  # beside the one that every request costs
        written = await self._write(asker, "vault.secret.import", namespace, wanted)
        return Imported(tuple(info.key for info in written), text.skipped)

    async def delete(self, asker: Asker, path: str) -> None:
        """Delete a secret with all of its versions."""

        async def work(change: Change, info: SecretInfo) -> None:
            await stored.destroy(change.connection, info.path, change.at)

        await self._answer(DeleteQuestion(asker[0], path), asker, work)

    async def _write(
        self, asker: Asker, action: WriteAction, where: str, wanted: Mapping[str, Wanted]
    ) -> tuple[SecretInfo, ...]:
        for each in wanted.values():
            check_value(each.value)
            check_metadata(each.metadata or {})

        async def work(change: Change, written: tuple[SecretInfo, ...]) -> None:
            master = await self._envelope.master(change.connection)
            sealed = [
                StoredSecret(info, self._envelope.seal(master, info.path, info.version, wanted[info.path].value))
                for info in written
            ]
            await stored.append_versions(change.connection, sealed, created_by=question.client_id or "")

        question = WriteQuestion(asker[0], action, where, wanted)
        return await self._answer(question, asker, work)

    async def _answer(self, question: VaultQuestion[T], asker: Asker, work: Work[T] | None = None) -> T:
        request, owner = asker
        is_counted, address = owner.is_counted, request.presented.address
        if work is None and not is_counted:
            return await self._asking.settle(question, address)

        async def acted_upon(change: Change, outcome: T) -> T:
            if work is not None:
                await work(change, outcome)
            if is_counted and not isinstance(outcome, MayList):
                await stored.count_use(change.connection, request.presented.credential.id)
            return outcome

        return await self._asking.change(question, address, acted_upon)


def _read(namespace: str, content: str) -> EnvText:
    try:
        text = read_env_text(content)
    except EnvTextError as exc:
        raise _unread((each.line, each.why) for each in exc.unread) from None
    except TooManyNamesError:
        text = None
    if text is None or not text.values:
        raise InvalidRequestError(f"the text must have 1 to {MOST_NAMES} names with values", field="content")
    wrong = [(text.lines[name], why) for name, value in text.values.items() if (why := _wrong(namespace, name, value))]
    if wrong:
        raise _unread(wrong)
    return text


def _wrong(namespace: str, name: str, value: str) -> str | None:
    try:
        if "/" in name:
            raise ValueError("its name is no name of a secret: it has a slash")
        check_path(f"{namespace}/{name}")
    except ValueError as exc:
        return str(exc)
    try:
        check_value(value)
    except InvalidRequestError as exc:
        return exc.message
    return None


def _unread(lines: Iterable[tuple[int, str]]) -> InvalidRequestError:
    found = sorted(lines)
    named = "; ".join(f"line {line}: {why}" for line, why in found[:MOST_UNREAD])
    more = "; and there may be more" if len(found) >= MOST_UNREAD else ""
    return InvalidRequestError(f"nothing was imported: {named}{more}", field="content")
