"""Which client sends this form, and how does it show that? One method of client authentication, and one only.

RFC 6749 section 2.3 (secret by Basic, or in the form), RFC 7523 section 2.2 (assertions), and a bare client id where
that is enough. Nothing is decided here: a proof is judged in the transaction that decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import Request

from authsec_core.errors import TokenRejectedError
from authsec_server import deps
from authsec_server.agents.presented import is_client_id, named_client
from authsec_server.agents.proofs import AgentKey, BareId, NoGoodProof, Proof, Workload
from authsec_server.authority import Authority
from authsec_server.credentials import basic, parse
from authsec_server.errors import RefusedError
from authsec_server.oauth.assertions import claimed_client, signed_by
from authsec_server.oauth.form import Form

__all__ = ["Introduced", "introduced"]

_SIGNED: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"


@dataclass(frozen=True, slots=True)
class Introduced:
    """The client that a request names, and what came along to prove it."""

    client_id: str
    proof: Proof


async def introduced(request: Request, form: Form) -> Introduced:
    """Return who asks.

    Raises:
        RefusedError: Nobody is named, or there are two methods.
        VerificationUnavailableError: The keys of whoever vouches for a workload cannot be had.
        StorageUnavailableError: The client's keys cannot be read.
    """
    inner, authorizations = deps.authority(request), request.headers.getlist("authorization")
    secret, assertion = form.get("client_secret"), form.get("client_assertion")
    if len(authorizations) + (secret is not None) + (assertion is not None) > 1:
        raise RefusedError("request_malformed", "use one method of client authentication")
    if authorizations:
        return _by_basic(inner, authorizations[0], form)
    if assertion is not None:
        return await _by_assertion(inner, assertion, form)
    client_id = named_client(form.get("client_id"))
    if secret is None:
        return Introduced(client_id, BareId(inner.settings.dev))
    credential = parse(secret)
    return Introduced(client_id, NoGoodProof() if credential is None else AgentKey(credential, inner.pepper))


def _by_basic(inner: Authority, authorization: str, form: Form) -> Introduced:
    pair = basic(authorization)
    if pair is None:
        raise RefusedError("client_id_malformed", "the Authorization header is not Basic with client id and secret")
    user, password = pair
    client_id, credential = named_client(user, form.get("client_id")), parse(password())
    return Introduced(client_id, NoGoodProof() if credential is None else AgentKey(credential, inner.pepper))


async def _by_assertion(inner: Authority, assertion: str, form: Form) -> Introduced:
    kind = form.need("client_assertion_type")
    if kind not in (_SIGNED, _SPIFFE):
        raise RefusedError("request_malformed", "client_assertion_type is not known")
    signer = claimed_client(assertion) if kind == _SIGNED else None
    if signer is not None and is_client_id(signer):
        client_id = named_client(signer, form.get("client_id"))
        keys = await inner.agents.keys_of(client_id)
        proof = signed_by(assertion, client_id, keys, issuer=inner.settings.issuer, now=inner.clock.wall())
        return Introduced(client_id, proof)
    # A workload's token names no client: its platform knows nothing of ours.
    client_id = named_client(form.get("client_id"))
    try:
        return Introduced(client_id, Workload(await inner.foreign.workload(assertion)))
    except TokenRejectedError as exc:
        return Introduced(client_id, NoGoodProof(exc.code))
