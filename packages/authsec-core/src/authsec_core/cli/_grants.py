"""From one token exchange, the authority's keys and a verification to findings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from authsec_core._claims import VerifiedToken
from authsec_core.cli._checks import skipped
from authsec_core.cli._observed import Contact, Exchanged
from authsec_core.cli._outcome import Finding
from authsec_core.errors import (
    AuthSecError,
    BadReplyError,
    ConfigurationError,
    DelegationRefusedError,
    ExpiredTokenError,
    NotYetValidError,
    ProofUnavailableError,
    ScopeNotGrantedError,
    VerificationUnavailableError,
    WrongIssuerError,
)
from authsec_core.scopes import format_scopes

__all__ = ["ProofKind", "check_keys", "check_proof", "check_scopes", "check_token"]

ProofKind: TypeAlias = Literal["none", "agent key", "workload token"]
_MOST_SHOWN: Final = 600  # characters of scopes in one line

_BY_PROOF: Final[Mapping[ProofKind, str]] = {
    "none": "set AUTHSEC_AGENT_KEY or AUTHSEC_WORKLOAD_TOKEN_FILE: this authority wants a proof",
    "agent key": "set AUTHSEC_AGENT_KEY to a key of this agent that was not withdrawn",
    "workload token": "check AUTHSEC_WORKLOAD_TOKEN_FILE: the audience of its token, and that the authority trusts its "
    "issuer for this agent",
}
_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "unknown_client": (
        "the authority knows no such agent, or it has no active delegation (404)",
        "check AUTHSEC_AGENT_CLIENT_ID, the agent's delegations, and the path in AUTHSEC_BASE_URL",
    ),
    "bad_request": (
        "the authority does not accept the request (400)",
        "check AUTHSEC_AGENT_CLIENT_ID, AUTHSEC_AUDIENCE and --scope",
    ),
}
_ACCEPTED: Final[Mapping[ProofKind, str]] = {
    "none": "accepted: the client id alone, because no proof is configured",
    "agent key": "accepted: the agent's key",
    "workload token": "accepted: the workload token",
}
# The authority looks at these only once it has accepted the proof.
_AFTER_PROOF: Final = frozenset({"not_delegated", "delegation_ended"})


def check_proof(exchanged: Exchanged, kind: ProofKind) -> Finding:
    """Say whether the authority took the agent for who it says it is."""
    error = exchanged.error
    if error is None or isinstance(error, ScopeNotGrantedError) or _reason(error) in _AFTER_PROOF:
        return Finding(check="proof", status="ok", message=_ACCEPTED[kind])
    if _reason(error) == "proof_rejected":
        message, mend = f"the authority refused the proof ({kind}, 401)", _BY_PROOF[kind]
    elif _reason(error) in _REFUSALS:
        message, mend = _REFUSALS[_reason(error)]
    elif isinstance(error, ProofUnavailableError):
        message, mend = error.message, "mend the file that AUTHSEC_WORKLOAD_TOKEN_FILE names, or its mount"
    elif isinstance(error, BadReplyError):
        message, mend = error.message, "check that AUTHSEC_BASE_URL is the authority's root, and ask its operator"
    else:
        message, mend = f"no token could be had: {error.message}", "try again later, and ask the authority's operator"
    return Finding(check="proof", status="fail", message=message, mend=mend)


def check_scopes(exchanged: Exchanged, asked: frozenset[str] | None, mapped: frozenset[str]) -> Finding:
    """Say what was granted, beside what was asked for and what the operator's own map of scopes needs.

    Args:
        exchanged: The exchange for `asked`.
        asked: None is the whole delegation.
        mapped: Every scope of AUTHSEC_ENDPOINT_SCOPES.
    """
    error, token = exchanged.error, exchanged.token
    if token is None:
        return _not_granted(error, asked)
    if asked is None and not token.scopes:
        return _fail("the delegation grants nothing", "have the agent's operator delegate scopes to it")
    if asked is None and mapped - token.scopes:
        return _warn(
            f"AUTHSEC_ENDPOINT_SCOPES names what is not granted: {_listed(mapped - token.scopes)}",
            "have the operator delegate these scopes, or take them out of the map",
        )
    if token.excess_scopes:
        return _warn(
            f"granted beyond what was asked: {_listed(token.excess_scopes)}",
            "nothing here; the authority may not narrow tokens to what is asked, so ask its operator for a delegation "
            "that is narrow itself",
        )
    return Finding(check="scopes", status="ok", message=f"granted: {_listed(token.scopes)}")


def check_keys(contact: Contact, keys: Iterable[str] | str, kid: str | None) -> Finding:
    """Say whether verifiers find the authority's keys, and among them the one that signed our token.

    Args:
        contact: The request for the key set.
        keys: The ids of the keys in it, or why it cannot be read.
        kid: The id of our token's key, where there is a token.
    """
    if contact.status != 200 or contact.trouble is not None:
        return _no_keys(contact)
    mend = "have the authority's operator mend its key set: every verifier depends on it"
    if isinstance(keys, str):
        return Finding(check="keys", status="fail", message=f"the key set is refused: {keys}", mend=mend)
    names = frozenset(keys)
    if not names:
        return Finding(check="keys", status="fail", message="the key set has no key for RS256", mend=mend)
    if kid is not None and kid not in names:
        return Finding(
            check="keys", status="fail", message="the key that signed the token is not in the key set", mend=mend
        )
    among = "" if kid is None else ", among them the token's"
    return Finding(check="keys", status="ok", message=f"keys for RS256: {len(names)}{among}")


def check_token(result: VerifiedToken | AuthSecError, *, named_issuer: bool) -> Finding:
    """Say whether a verifier accepts the token.

    Args:
        result: What the verifier made of it.
        named_issuer: Whether AUTHSEC_ISSUER is set.
    """
    if isinstance(result, VerifiedToken):
        revocation = "not revoked" if "status" in result.claims else "no status: it cannot be revoked"
        message = f"verified: signature, issuer, audience, times; {revocation}"
        return Finding(check="token", status="ok", message=message)
    error = result
    if isinstance(error, WrongIssuerError):  # said after the signature was found good
        mend = "check it" if named_issuer else "if verifiers know the authority by another address, set it"
        return Finding(
            check="token",
            status="fail" if named_issuer else "warn",
            message="the signature is good, but the token's iss is not "
            + ("AUTHSEC_ISSUER" if named_issuer else "the authority's address with /authsec"),
            mend=f"AUTHSEC_ISSUER: {mend}",
        )
    if isinstance(error, ConfigurationError):
        mend = "check AUTHSEC_ISSUER"
    elif isinstance(error, (ExpiredTokenError, NotYetValidError)):
        mend = "set the clock (NTP) on this machine, or on the authority's"
    elif isinstance(error, VerificationUnavailableError):
        mend = "have the authority's operator publish the status list: verifiers refuse every token without it"
    else:
        mend = "ask the authority's operator: every verifier will refuse such tokens"
    return Finding(check="token", status="fail", message=f"a verifier refuses it: {error.message}", mend=mend)


def _reason(error: AuthSecError | None) -> str:
    return error.reason if isinstance(error, DelegationRefusedError) else ""


def _not_granted(error: AuthSecError | None, asked: frozenset[str] | None) -> Finding:
    mend = "have the agent's operator delegate what is missing, or ask for less"
    if isinstance(error, ScopeNotGrantedError):
        return _fail(f"not granted: {_listed(error.missing)}", mend)
    if _reason(error) == "not_delegated":
        what = "anything" if asked is None else _listed(asked)
        return _fail(f"no delegation of this agent grants {what}", mend)
    if _reason(error) == "delegation_ended":
        return _fail("the delegation has expired or was revoked", "have the agent's operator renew it")
    return skipped("scopes", "there is no token")


def _no_keys(contact: Contact) -> Finding:
    if contact.status == 404 and contact.trouble is None:
        return Finding(
            check="keys",
            status="warn",
            message=f"there is no key set at {contact.url}",
            mend="tell verifiers where this authority publishes its keys",
        )
    why = contact.trouble or f"status {contact.status}"
    return Finding(
        check="keys",
        status="fail",
        message=f"the key set cannot be fetched ({why})",
        mend="have the authority's operator mend it: verifiers refuse every token once they have no keys",
    )


def _listed(scopes: frozenset[str]) -> str:
    text = format_scopes(scopes)
    if len(text) <= _MOST_SHOWN:
        return text
    # Whole ones only: a half would be a scope that nobody granted, or half of a credential that is not recognised.
    whole, _, _ = text[: _MOST_SHOWN + 1].rpartition(" ")
    return f"{whole} ... ({len(scopes)} in all)".lstrip()


def _fail(message: str, mend: str) -> Finding:
    return Finding(check="scopes", status="fail", message=message, mend=mend)


def _warn(message: str, mend: str) -> Finding:
    return Finding(check="scopes", status="warn", message=message, mend=mend)
