"""What all requests to the vault have in common: who asks is found out first, and the answer is on record either way.

A question is judged by the ledger together with others, or in a change of its own where something is written or a use
of a token is counted (`audit.ledger.Change.judge`). Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from authsec_core.vault_scopes import format_vault_scopes
from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import ANONYMOUS, Actor, Caller, Entry
from authsec_server.audit.memory import Want
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.db.among import among
from authsec_server.db.tables import vault_tokens
from authsec_server.errors import RefusedError
from authsec_server.vault.policy import Holder, Presented, VaultToken, holder_of, token_of

__all__ = ["VaultQuestion", "VaultRequest", "WhoAsks", "read_tokens"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultRequest:
    """A request to the vault, as far as it says who asks.

    Attributes:
        claimed: The agent's own words, for the audit.
    """

    presented: Presented
    request_id: str
    claimed: Mapping[str, str] = field(default_factory=dict)


class VaultQuestion(Generic[T]):
    """Whatever is asked of the vault. A subclass says what is decided once it is known who asks.

    Args:
        action: Its name in the audit, such as `vault.secret.read`.
        asked: The scopes that it takes, or that are asked for.
        details: For the audit, also of a refusal; never a secret.
        wants: What else has to be looked up.
    """

    mark: str | None = None

    def __init__(
        self,
        request: VaultRequest,
        action: str,
        *,
        asked: str | None = None,
        details: Mapping[str, Any] | None = None,
        wants: Collection[Want] = (),
    ) -> None:
        presented = request.presented
        self.client_id = presented.client_id
        self._token: Want | None = None
        if presented.credential.kind == "vault-token":
            self._token = (read_tokens, presented.credential.id)
        self.wants: tuple[Want, ...] = (*([self._token] if self._token else []), *wants)
        self._request, self._action = request, action
        self._asked, self._details = asked, dict(details or {})

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[T | RefusedError]:
        """Decide: who is it, and may it?"""
        token: VaultToken | None = None if self._token is None else slot.found.get(self._token)
        holder: Holder | None = None
        try:
            holder = holder_of(self._request.presented, standing=standing, token=token, at=slot.at)
            return self._allowed(holder, slot)
        except RefusedError as refusal:
            return Verdict(result=refusal, entry=self._refused(standing, holder, refusal))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[T | RefusedError]:
        """Decide for who has proven who they are, or raise `RefusedError`."""
        raise NotImplementedError

    def _entry(self, holder: Holder, *, details: Mapping[str, Any] | None = None, **more: Any) -> Entry:
        client, token = holder.client, holder.token
        return Entry(
            caller=self._caller(Actor(kind="agent", id=client.client_id, name=client.name)),
            client_id=client.client_id,
            subject=client.spiffe_id,
            asked=self._asked,
            claimed=self._request.claimed,
            **{
                "action": self._action,
                "jti": None if token is None else token.token_id,
                "scope": None if token is None else format_vault_scopes(token.scopes),
                **more,
            },
            details={"key_id": holder.key_id, **self._details, **(details or {})},
        )

    def _refused(self, standing: Standing | None, holder: Holder | None, refusal: RefusedError) -> Entry:
        if holder is not None:
            return self._entry(holder, decision="deny", reason=refusal.reason)
        # Of strangers no words are kept: else anyone could fill the audit with theirs.
        return Entry(
            action=self._action,
            decision="deny",
            caller=self._caller(ANONYMOUS),
            client_id=None if standing is None else standing.client_id,
            jti=None if standing is None or self._token is None else self._token[1],
            reason=refusal.reason,
        )

    def _caller(self, actor: Actor) -> Caller:
        return Caller(actor=actor, request_id=self._request.request_id, address=self._request.presented.address)


class WhoAsks(VaultQuestion[Holder]):
    """Asks for nothing but to be recognised. Only a refusal is on record."""

    def __init__(self, request: VaultRequest) -> None:
        super().__init__(request, "vault.denied")

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[Holder | RefusedError]:
        return Verdict(result=holder, entry=None)


def read_tokens(connection: sa.Connection, token_ids: Collection[str]) -> dict[str, VaultToken]:
    """Return these vault tokens, by their ids. A `Reader` of the ledger."""
    found = connection.execute(_TOKENS, {"ids": token_ids})
    return {row.token_id: token_of(row) for row in found}


_TOKENS = sa.select(vault_tokens).where(among(vault_tokens.c.token_id, "ids"))
