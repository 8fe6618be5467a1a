"""May these secrets be written or deleted, and what are they then? Decided in the change that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from authsec_server.audit.questions import Slot, Verdict
from authsec_server.errors import RefusedError
from authsec_server.ids import random_uuid
from authsec_server.vault.policy import AccessTier, Holder, permit
from authsec_server.vault.questions import VaultQuestion, VaultRequest
from authsec_server.vault.reading import no_such_secret
from authsec_server.vault.stored import Head, read_heads
from authsec_server.vault.values import SecretInfo, Wanted

__all__ = ["DeleteQuestion", "WriteAction", "WriteQuestion"]

WriteAction = Literal["vault.secret.write", "vault.secret.rotate", "vault.secret.import"]
_LAST_VERSION: Final = 2**31 - 1  # that the column takes


class WriteQuestion(VaultQuestion[tuple[SecretInfo, ...]]):
    """May these secrets be written? The answer is what each of them will be: all, or none.

    Args:
        where: What the audit calls the whole: a path, or the namespace of an import.
        wanted: By their paths.
    """

    def __init__(self, request: VaultRequest, action: WriteAction, where: str, wanted: Mapping[str, Wanted]) -> None:
        self._wanted, self._must_exist = wanted, action == "vault.secret.rotate"
        super().__init__(
            request,
            action,
            asked=f"secrets:write:{where}/*" if action == "vault.secret.import" else f"secrets:write:{where}",
            details={"path": where},
            wants=tuple((read_heads, path) for path in wanted),
        )

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[tuple[SecretInfo, ...] | RefusedError]:
        written = tuple(self._written(path, wanted, holder, slot) for path, wanted in self._wanted.items())
        versions = {info.key: info.version for info in written}
        details = {"versions": versions} if self._action == "vault.secret.import" else {"version": written[0].version}
        return Verdict(result=written, entry=self._entry(holder, decision="allow", details=details))

    def _written(self, path: str, wanted: Wanted, holder: Holder, slot: Slot) -> SecretInfo:
        head: Head | None = slot.found.get((read_heads, path))
        before = None if head is None or head.is_deleted else head.info
        permit(holder, "write", path, tier="standard" if before is None else before.access_tier)
        if before is None and self._must_exist:
            raise no_such_secret()
        version = 1 if head is None else head.info.version + 1
        if version > _LAST_VERSION:
            raise RefusedError(
                "limit_reached", "this secret has been written as often as it can be: choose another path"
            )
        info = before or SecretInfo(
            path=path,
            secret_id=random_uuid() if head is None else head.info.secret_id,
            version=version,
            secret_type="custom",  # noqa: S106 -- a kind
            access_tier="standard",
            metadata={},
            created_at=slot.at,
            updated_at=slot.at,
        )
        return replace(
            info,
            version=version,
            secret_type=wanted.secret_type or info.secret_type,
            access_tier=wanted.access_tier or info.access_tier,
            metadata=info.metadata if wanted.metadata is None else wanted.metadata,
            updated_at=slot.at,
        )


class DeleteQuestion(VaultQuestion[SecretInfo]):
    """May this secret be deleted?"""

    def __init__(self, request: VaultRequest, path: str) -> None:
        self._path = path
        super().__init__(
            request,
            "vault.secret.delete",
            asked=f"secrets:delete:{path}",
            details={"path": path},
            wants=((read_heads, path),),
        )

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[SecretInfo | RefusedError]:
        head: Head | None = slot.found.get((read_heads, self._path))
        there = None if head is None or head.is_deleted else head.info
        tier: AccessTier = "standard" if there is None else there.access_tier
        permit(holder, "delete", self._path, tier=tier)
        if there is None:
            raise no_such_secret()
        details = {"version": there.version}
        return Verdict(result=there, entry=self._entry(holder, decision="allow", details=details))
