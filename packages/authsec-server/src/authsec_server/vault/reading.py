"""May this secret be read, and what may be listed? Decided in the ledger's transaction; nothing is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from authsec_server.audit.ledger import Slot, Verdict
from authsec_server.audit.memory import Want
from authsec_server.credentials import Pepper
from authsec_server.errors import RefusedError
from authsec_server.vault.policy import Holder, permit, permit_listing
from authsec_server.vault.questions import VaultQuestion, VaultRequest
from authsec_server.vault.stored import MOST_LISTED, StoredSecret, page_after, read_latest, version_reader
from authsec_server.vault.values import SecretInfo

__all__ = ["READ", "ListQuestion", "Listing", "ReadQuestion", "no_such_secret"]

READ: Final = "vault.secret.read"
_LIST: Final = "vault.secret.list"


@dataclass(frozen=True, slots=True)
class Listing:
    """What of a namespace may be seen.

    Attributes:
        next: After which path to go on; None where this is all.
    """

    namespace: str
    items: tuple[SecretInfo, ...]
    next: str | None


class ReadQuestion(VaultQuestion[StoredSecret | None]):
    """May this secret be read? The answer is None where the address may mean a namespace: then `ListQuestion` decides.

    Args:
        version: None is the latest.
        may_list: Whether the address may mean a namespace.
    """

    def __init__(
        self, request: VaultRequest, pepper: Pepper, path: str, *, version: int | None = None, may_list: bool = False
    ) -> None:
        self._path, self._may_list = path, may_list
        self._secret: Want = (read_latest if version is None else version_reader(version), path)
        details = {"path": path} if version is None else {"path": path, "version": version}
        super().__init__(request, READ, pepper, asked=f"secrets:read:{path}", details=details, wants=(self._secret,))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[StoredSecret | RefusedError | None]:
        found: StoredSecret | None = slot.found.get(self._secret)
        is_another = found is None or not holder.covers("read", self._path)
        if self._may_list and is_another and holder.reaches("read", self._path):
            return Verdict(result=None, entry=None)
        permit(holder, "read", self._path, tier="standard" if found is None else found.info.access_tier)
        if found is None:
            raise no_such_secret()
        details = {"version": found.info.version}
        return Verdict(result=found, entry=self._entry(holder, decision="allow", details=details))


class ListQuestion(VaultQuestion[Listing]):
    """What of this namespace may be seen?

    Args:
        namespace: The empty text is the whole vault.
        after: The path that a page before ended with.
        or_secret: Whether the address may mean a secret, too, so that an empty list is no answer.
    """

    def __init__(
        self, request: VaultRequest, pepper: Pepper, namespace: str, *, after: str = "", or_secret: bool = False
    ) -> None:
        self._namespace, self._or_secret = namespace, or_secret
        self._below: Want = (page_after(after), namespace)
        super().__init__(
            request,
            READ if or_secret else _LIST,
            pepper,
            asked=f"secrets:read:{namespace if or_secret else _tail(namespace)}",
            details={"path": namespace or "*"},
            wants=(self._below,),
        )

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[Listing | RefusedError]:
        permit_listing(holder, self._namespace)
        found: tuple[SecretInfo, ...] = slot.found[self._below]
        page, is_more = found[:MOST_LISTED], len(found) > MOST_LISTED
        items = tuple(info for info in page if holder.covers("read", info.path))
        if self._or_secret and not items and not is_more:
            permit(holder, "read", self._namespace, tier="standard")
            raise no_such_secret()
        listing = Listing(self._namespace, items, page[-1].path if is_more else None)
        entry = self._entry(holder, action=_LIST, decision="allow", details={"count": len(items)})
        return Verdict(result=listing, entry=entry)


def _tail(namespace: str) -> str:
    return f"{namespace}/*" if namespace else "*"


def no_such_secret() -> RefusedError:
    """Return what is said to who may know that there is no such secret."""
    return RefusedError("secret_not_found", "there is no such secret, or no such version of it")
