"""What do tokens of ours say that somebody shows us, and are they still good? Introspection, and revocation by clients.

A token is good if this authority signed it with a key that it still trusts, and the database says that it was neither
taken back nor has ended: nothing is kept, so that the answer is as fresh as the database. RFC 7662, RFC 7009.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from authsec_core._claims import Profile, Rules, VerifiedToken, read_claims
from authsec_core._clock import Clock
from authsec_core._jws import Rs256Key, check_signature, parse_jws
from authsec_core.errors import BadSignatureError, MalformedTokenError, RevokedTokenError, TokenRejectedError
from authsec_core.scopes import format_scopes
from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import Actor, Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.audit.questions import Settled
from authsec_server.db.engine import Database
from authsec_server.db.tables import tokens
from authsec_server.errors import RefusedError
from authsec_server.keys.keyring import Keyring
from authsec_server.tokens.subjects import OwnSubject, is_on_record
from authsec_server.tokens.withdraw import STILL_ACCEPTED, revoke_tokens

__all__ = ["OwnTokens"]

_LONGEST: Final = 8 * 1024  # characters
_KINDS: Final[Mapping[str | None, Profile]] = {"JWT": "delegation", "at+jwt": "at+jwt"}
_SHOWN: Final = ("iss", "sub", "sub_id", "aud", "exp", "iat", "nbf", "jti", "client_id", "act")


class OwnTokens:
    """Reads, introspects and revokes tokens of this authority. For one event loop."""

    def __init__(self, ledger: Ledger, database: Database, keyring: Keyring, *, issuer: str, clock: Clock) -> None:
        self._ledger = ledger
        self._database = database
        self._keyring = keyring
        self._issuer = issuer
        self._clock = clock

    def is_ours(self, text: str) -> bool:
        """Return whether a token says to be from here; unverified."""
        try:
            return parse_jws(text, limit=_LONGEST).claims().get("iss") == self._issuer
        except TokenRejectedError:
            return False

    async def read(self, text: str, *, leeway: float = 0.0) -> VerifiedToken:
        """Return what a token says, if we signed it and it has not ended. Whether it is on record is not looked at.

        Args:
            leeway: Seconds after its end for which it counts all the same.

        Raises:
            TokenRejectedError: It is none of ours, or has ended.
            StorageUnavailableError: Our keys cannot be read.
        """
        jws = parse_jws(text, limit=_LONGEST)
        profile = _KINDS.get(jws.header.typ)
        if profile is None:
            raise MalformedTokenError("the token is of another type")
        key = (await self._keyring.read()).get(jws.header.kid)
        if key is None:
            raise BadSignatureError("the token names a key that is none of ours")
        check_signature(jws, Rs256Key(key.private.public_key()))
        claims = jws.claims()
        audience = claims.get("aud")
        named = audience if isinstance(audience, tuple) else (audience,)
        rules = Rules(issuer=self._issuer, audiences=frozenset(map(str, named)), profile=profile, leeway=leeway)
        return read_claims(claims, key_id=jws.header.kid, rules=rules, now=self._clock.wall())

    async def subject(self, text: str) -> OwnSubject:
        """Return whom a token speaks for, to be exchanged.

        Raises:
            TokenRejectedError, StorageUnavailableError: As in `read`.
        """
        return OwnSubject(token=await self.read(text))

    async def introspect(self, text: str) -> dict[str, Any]:
        """Return what RFC 7662 section 2.2 says of a token: of one that is not good, no more than that.

        Raises:
            StorageUnavailableError: Nothing can be said.
        """
        try:
            token = await self.read(text)
            await self._refuse_revoked(token)
        except TokenRejectedError:
            return {"active": False}
        shown = {name: _plain(token.claims[name]) for name in _SHOWN if name in token.claims}
        return {"active": True, "token_type": "Bearer", "scope": format_scopes(token.scopes), **shown}

    async def revoke(self, client: Standing, text: str, *, request_id: str, address: str | None) -> None:
        """Take back a token of this client's own. What is no good token, or was taken back before, needs nothing.

        Raises:
            RefusedError: It is another client's (RFC 7009 section 2.1); that is on record.
            StorageUnavailableError: It could not be recorded.
        """
        try:
            token = await self.read(text, leeway=STILL_ACCEPTED)
        except TokenRejectedError:
            return
        row = await self._row(token)
        if row is None or not is_on_record(token, row):
            return
        actor = Actor(kind="agent", id=client.client_id, name=client.name)
        entry = Entry(
            action="token.revoke",
            decision="allow" if row.client_id == client.client_id else "deny",
            caller=Caller(actor=actor, request_id=request_id, address=address),
            client_id=row.client_id,
            jti=row.jti,
            reason=None if row.client_id == client.client_id else "token_of_another",
        )
        if entry.decision == "deny":
            await self._ledger.judge(Settled(entry))
            raise RefusedError("token_of_another", "the token was issued to another client")
        if row.revoked_at is None:  # looked at before, so that who repeats it takes nobody's turn
            await self._ledger.change(lambda change: _revoke(change, entry))

    async def _refuse_revoked(self, token: VerifiedToken) -> None:
        row = await self._row(token)
        if row is None or row.revoked_at is not None or not is_on_record(token, row):
            raise RevokedTokenError("the token was taken back, or is not the one that was issued")

    async def _row(self, token: VerifiedToken) -> Any:
        async with self._database.read() as connection:
            return (await connection.execute(sa.select(tokens).where(tokens.c.jti == token.jti))).one_or_none()


async def _revoke(change: Change, entry: Entry) -> None:
    good = sa.select(tokens.c.jti).where(tokens.c.jti == entry.jti, tokens.c.revoked_at.is_(None))
    found = (await change.connection.execute(good)).scalars().all()
    if found:
        await revoke_tokens(change, found)
        change.record(entry)


def _plain(value: Any) -> Any:
    """Return a claim as JSON encoders take it."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, tuple) else value
