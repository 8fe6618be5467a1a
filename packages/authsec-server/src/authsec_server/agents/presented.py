"""Which client is named, and what came along in `Authorization` to prove that it is? A value that is judged later.

It tells the kinds of proof apart and verifies what somebody else has signed; what the proof is worth at this moment is
decided in the ledger's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from authsec_core.errors import TokenRejectedError
from authsec_server.agents.proofs import AgentKey, BareId, NoGoodProof, Proof, Workload
from authsec_server.credentials import Credential, Pepper, basic, parse
from authsec_server.errors import RefusedError
from authsec_server.issuers.tokens import ForeignTokens

__all__ = ["is_client_id", "named_client", "presented"]

_CLIENT_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+){2}")


def named_client(*named: str | None) -> str:
    """Return the client id that a request names, wherever it does; None is a place where it names none.

    Raises:
        RefusedError: It names none, two, or something else.
    """
    given = {name.lower() for name in named if name is not None}
    if not given or given == {""}:
        raise RefusedError("client_id_missing", "client_id is required")
    if len(given) > 1:
        raise RefusedError("request_malformed", "client_id is given twice, and differently")
    (client_id,) = given
    if not is_client_id(client_id):
        raise RefusedError("client_id_malformed", "client_id must be a UUID")
    return client_id


def is_client_id(text: str) -> bool:
    """Return whether a client may have this id."""
    return _CLIENT_ID.fullmatch(text) is not None


async def presented(
    authorizations: Sequence[str], client_id: str, *, bare_ids: bool, pepper: Pepper, foreign: ForeignTokens
) -> Proof:
    """Return the proof. A workload's token costs a fetch where its issuer's keys are due.

    Args:
        authorizations: All headers of the name.
        client_id: Whom it is brought for.
        bare_ids: Whether nothing at all is enough.

    Raises:
        VerificationUnavailableError: The keys of a workload token's issuer cannot be had.
        StorageUnavailableError: The database does not answer.
    """
    if not authorizations:
        return BareId(bare_ids)
    if len(authorizations) != 1:
        return NoGoodProof()
    scheme, _, text = authorizations[0].partition(" ")
    if scheme.lower() == "bearer" and _JWT.fullmatch(text.strip()):
        return await _workload(text.strip(), foreign)
    credential = _credential(authorizations[0], client_id)
    return NoGoodProof() if credential is None else AgentKey(credential, pepper)


async def _workload(text: str, foreign: ForeignTokens) -> Proof:
    try:
        return Workload(await foreign.workload(text))
    except TokenRejectedError as exc:
        return NoGoodProof(exc.code)


def _credential(authorization: str, client_id: str) -> Credential | None:
    """Return the agent key that came along, if it is one and is brought for this client."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return parse(text.strip())
    if (pair := basic(authorization)) is not None:
        user, password = pair
        return parse(password()) if user.lower() == client_id else None
    return None
