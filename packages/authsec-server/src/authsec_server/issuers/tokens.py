"""Whom does a token vouch for that somebody else issued? Verified with the keys of the issuer that is registered.

Only the issuer and the kind of token are looked at here, and what the token says; whether the issuer is still trusted,
and whether the workload is the agent, is decided in the ledger's transaction.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from authsec_core._claims import claims_issuer
from authsec_core._clock import Clock
from authsec_core._jws import RS256_OR_ES256, parse_jws
from authsec_core.errors import ConfigurationError, TokenRejectedError, WrongIssuerError
from authsec_core.verify import TokenVerifier, VerifiedToken
from authsec_server.issuers.identity import UserIdentity, WorkloadIdentity
from authsec_server.issuers.mapping import user_of, workload_of
from authsec_server.issuers.registry import Known, Registry
from authsec_server.issuers.values import RegisteredIssuer

__all__ = ["ForeignTokens"]

_LONGEST_TOKEN: Final = 8 * 1024  # characters
_MOST_VERIFIERS: Final = 256  # each holds one issuer's keys
_REMEMBERED: Final = 1024  # tokens of one issuer: a workload brings the same one for up to an hour
_TIMEOUT: Final = 2.0  # seconds for one fetch of keys: all that a request waits for has to fit into its own time

_Pick = Callable[[Mapping[str, Any], Known], RegisteredIssuer | None]


class ForeignTokens:
    """Verifies tokens of registered issuers. For one event loop.

    Args:
        registry: Says which issuers are trusted.
        ca_file: A PEM file of the authorities to trust, instead of the usual ones, for the issuers' keys.

    Raises:
        ConfigurationError: That file cannot be used.
    """

    def __init__(self, registry: Registry, *, ca_file: Path | None, clock: Clock) -> None:
        self._registry = registry
        self._ca_file = ca_file
        self._clock = clock
        self._verifiers: OrderedDict[str, tuple[int, TokenVerifier]] = OrderedDict()  # by issuer id, with its revision
        if ca_file is not None:
            _check_ca_file(ca_file)

    async def workload(self, text: str) -> WorkloadIdentity:
        """Return the workload that a token vouches for. Costs a fetch where the issuer's keys are due.

        Raises:
            TokenRejectedError: The token is not good, or its issuer is not registered for workloads.
            VerificationUnavailableError: The issuer's keys cannot be had.
            StorageUnavailableError: The database does not answer.
        """
        return workload_of(*await self._verified(text, _workloads_issuer))

    async def user(self, text: str) -> UserIdentity:
        """Return the user that a token vouches for. Costs a fetch where the issuer's keys are due.

        Raises:
            TokenRejectedError: The token is not good, or its issuer is not registered for users.
            VerificationUnavailableError: The issuer's keys cannot be had.
            StorageUnavailableError: The database does not answer.
        """
        return user_of(*await self._verified(text, _users_issuer))

    async def _verified(self, text: str, pick: _Pick) -> tuple[RegisteredIssuer, VerifiedToken]:
        claims = parse_jws(text, limit=_LONGEST_TOKEN, algorithms=RS256_OR_ES256).claims()
        issuer = pick(claims, await self._registry.read())
        try:
            return await self._verify(text, issuer)
        except TokenRejectedError:
            # Another replica may have registered or changed it a moment ago, and a refusal would be wrong. To look
            # again costs less than the entry in the audit that a refusal is.
            latest = pick(claims, await self._registry.latest())
            if latest == issuer:
                raise
            return await self._verify(text, latest)

    async def _verify(self, text: str, issuer: RegisteredIssuer | None) -> tuple[RegisteredIssuer, VerifiedToken]:
        if issuer is None:
            raise WrongIssuerError("the token's issuer is not registered here")
        return issuer, await self._verifier(issuer).averify(text)

    def _verifier(self, issuer: RegisteredIssuer) -> TokenVerifier:
        revision, verifier = self._verifiers.get(issuer.issuer_id, (0, None))
        if verifier is None or revision != issuer.revision:
            verifier = self._made(issuer)
            self._verifiers[issuer.issuer_id] = (issuer.revision, verifier)
        self._verifiers.move_to_end(issuer.issuer_id)
        while len(self._verifiers) > _MOST_VERIFIERS:
            self._verifiers.popitem(last=False)
        return verifier

    def _made(self, issuer: RegisteredIssuer) -> TokenVerifier:
        return TokenVerifier(
            issuer=issuer.issuer,
            audience=issuer.audience,
            jwks=issuer.jwks,
            jwks_url=issuer.jwks_url,
            profile=issuer.profile,
            remember=_REMEMBERED,
            timeout=_TIMEOUT,
            ca_file=self._ca_file,
            clock=self._clock,
        )


def _workloads_issuer(claims: Mapping[str, Any], known: Known) -> RegisteredIssuer | None:
    # By what nobody has vouched for yet: a token that lies here does not verify with the keys of whom it names.
    named = known.get(claims_issuer(claims, "oidc"), for_users=False)
    if named is None or named.kind == "spiffe":
        named = known.get(claims_issuer(claims, "jwt-svid"), for_users=False)
    return named


def _users_issuer(claims: Mapping[str, Any], known: Known) -> RegisteredIssuer | None:
    return known.get(claims_issuer(claims, "oidc"), for_users=True)


def _check_ca_file(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as exc:
        raise ConfigurationError(f"AUTHSEC_SERVER_ISSUER_CA_FILE: {path} is not a PEM file of certificates") from exc
