"""May this secret be read, or this namespace be listed? Decided in the ledger's transaction; nothing is opened.

What a list has is read afterwards: however much that is, nobody else waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from authsec_server.audit.memory import Want
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.errors import RefusedError
from authsec_server.vault.policy import Holder, permit, permit_listing
from authsec_server.vault.questions import VaultQuestion, VaultRequest
from authsec_server.vault.stored import StoredSecret, read_latest, version_reader

__all__ = ["ListQuestion", "MayList", "ReadQuestion", "no_such_secret"]


@dataclass(frozen=True, slots=True)
class MayList:
    """There is no secret here that this holder may read, and there may be some below."""

    holder: Holder


class ReadQuestion(VaultQuestion[StoredSecret | MayList]):
    """May this secret be read? Of `MayList` nothing is on record: what comes of it is asked next.

    Args:
        version: None is the latest.
        may_list: Whether the address may mean a namespace.
    """

    def __init__(self, request: VaultRequest, path: str, *, version: int | None = None, may_list: bool = False) -> None:
        self._path, self._may_list = path, may_list
        self._secret: Want = (read_latest if version is None else version_reader(version), path)
        details = {"path": path} if version is None else {"path": path, "version": version}
        super().__init__(
            request, "vault.secret.read", asked=f"secrets:read:{path}", details=details, wants=(self._secret,)
        )

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[StoredSecret | MayList | RefusedError]:
        found: StoredSecret | None = slot.found.get(self._secret)
        is_another = found is None or not holder.covers("read", self._path)
        if self._may_list and is_another and holder.reaches("read", self._path):
            return Verdict(result=MayList(holder), entry=None)
        permit(holder, "read", self._path, tier="standard" if found is None else found.info.access_tier)
        if found is None:
            raise no_such_secret()
        details = {"version": found.info.version}
        return Verdict(result=found, entry=self._entry(holder, decision="allow", details=details))


class ListQuestion(VaultQuestion[Holder]):
    """May what lies in this namespace be listed? The answer is who asks, which says what they may see of it.

    Args:
        namespace: The empty text is the whole vault.
    """

    def __init__(self, request: VaultRequest, namespace: str) -> None:
        self._namespace = namespace
        super().__init__(
            request,
            "vault.secret.list",
            asked=f"secrets:read:{namespace}/*" if namespace else "secrets:read:*",
            details={"path": namespace or "*"},
        )

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[Holder | RefusedError]:
        permit_listing(holder, self._namespace)
        return Verdict(result=holder, entry=self._entry(holder, decision="allow"))


def no_such_secret() -> RefusedError:
    """Return what is said to who may know that there is no such secret."""
    return RefusedError("secret_not_found", "there is no such secret, or no such version of it")
