"""Is this token good: made by the issuer, meant for us, alive, and not taken back?

`TokenVerifier` answers for one issuer, kind of token and audience, blocking or async; what a good token allows is for
the guard to decide. Anything that cannot be checked is refused. The order is fixed: form, key, signature, claims,
revocation, so that a stranger's text costs little and learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from authsec_core._claims import (
    PROFILES,
    Profile,
    Rules,
    VerifiedToken,
    check_times,
    check_type,
    claims_issuer,
    is_trust_domain,
    read_claims,
)
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._fetching import Fetcher, Steps
from authsec_core._jwks import GivenKeys, KeySource, RemoteKeys, Wanted
from authsec_core._jws import Jws, VerifyingKey, check_signature, parse_jws
from authsec_core._origin import check_base_url
from authsec_core._recent import Examined, RecentTokens
from authsec_core._refreshing import Pace
from authsec_core._status_list import StatusLists, StatusReference
from authsec_core.errors import (
    BadSignatureError,
    ConfigurationError,
    MalformedTokenError,
    RevokedTokenError,
    WrongIssuerError,
)

if TYPE_CHECKING:
    import httpx

__all__ = ["Profile", "TokenVerifier", "VerifiedToken"]

_LONGEST_TOKEN: Final = 8 * 1024  # characters
_LARGEST_LEEWAY: Final = 300.0  # seconds


class TokenVerifier:
    """Verifies the tokens of one issuer. Thread-safe, loop-safe, and there is nothing to close.

    With `jwks_url` the first token costs a fetch of the issuer's keys, and one caller in `jwks_refresh / 2` seconds
    another; a token with a `status` claim also needs its status list, fetched at least every `revocation_max_age / 2`
    seconds. Everyone else goes on meanwhile with what is known. All other calls do no I/O and take no lock.

    How long does something old count?
        - A **revoked token** is refused at most `revocation_max_age` seconds after the issuer publishes the
          revocation. When the list cannot be fetched for that long, every token that it covers is refused with
          VerificationUnavailableError. A list that was signed too long ago counts as one that cannot be fetched,
          because it may be an old copy: without `exp`, longer than `revocation_max_age` ago; with `exp` and `ttl`,
          longer than the sum of `ttl` and `revocation_max_age`. So an issuer signs each list anew more often.
        - A **withdrawn key** is refused at most `jwks_refresh` seconds after it is withdrawn, while the issuer answers.
          A fetch that fails starts these seconds anew, but only until the keys are `jwks_max_age` old.
        - A **new key** is known at most `jwks_refresh` seconds after it is published; an issuer should wait that long
          before it uses the key. If it does not, the first token that names the key causes a fetch; within `cooldown`
          seconds of a fetch that was in vain (somebody sends made-up key ids) such a token gets
          VerificationUnavailableError, never a wrong "forged".

    Args:
        issuer: Must equal the token's `iss`; with the profile `jwt-svid` it is the trust domain of the token's `sub`,
            `spiffe://example.org`. Status lists must lie below it.
        audience: One of these must be in the token's `aud`.
        jwks: The issuer's JWK set, or the bundle of the trust domain. Give this or `jwks_url`.
        jwks_url: Where the issuer publishes its keys. Redirects are not followed.
        profile: `"delegation"` (`typ` is `JWT`), `"at+jwt"` (RFC 9068), `"oidc"` for a foreign identity provider,
            whose tokens need no `typ` and no `jti`, or `"jwt-svid"` for a SPIFFE trust domain, whose tokens need no
            `iat` and no `iss` either. The kinds are never accepted for one another. Our own are signed with RS256,
            foreign ones with RS256 or ES256, as the type of the key says.
        leeway: Seconds by which the issuer's clock may differ from ours; at most 300.
        require_status: Refuse tokens without a `status` claim, which cannot be revoked. A token that has the claim is
            always checked.
        revocation_max_age: Seconds.
        jwks_refresh: Seconds.
        jwks_max_age: Seconds.
        cooldown: Seconds between two fetches after one that failed or was in vain.
        remember: How many verified tokens to know again by their SHA-256, which spares the signature of a token that
            is used often. Key, times and revocation are checked all the same, so that nothing is trusted for longer.
        timeout: Seconds for one fetch.
        ca_file: A PEM file of the authorities to trust instead of the usual ones.
        allow_http: Allow `http` beyond loopback, where anyone on the way can exchange the keys.
        transport: An httpx transport for `verify` (and for `averify`, if it is an async one too).
        async_transport: An httpx transport for `averify`.
        clock: For tests.

    Raises:
        ValueError: The arguments contradict each other or are out of range.
        ConfigurationError: The key set, the CA file or a URL is unsafe or unusable.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Iterable[str],
        jwks: Mapping[str, Any] | None = None,
        jwks_url: str | None = None,
        profile: Profile = "delegation",
        leeway: float = 5.0,
        require_status: bool = False,
        revocation_max_age: float = 5.0,
        jwks_refresh: float = 300.0,
        jwks_max_age: float = 3600.0,
        cooldown: float = 5.0,
        remember: int = 0,
        timeout: float = 5.0,
        ca_file: str | Path | None = None,
        allow_http: bool = False,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        _check_issuer(issuer, allow_http=allow_http)
        self._rules = _rules(issuer, audience, profile, leeway)
        kind = PROFILES[profile]
        self._algorithms = kind.algorithms
        wanted = Wanted(use=kind.use, algorithms=kind.algorithms)
        # A status list may need the key set on its way, and each may take a little over `timeout`.
        pace = Pace(cooldown=cooldown, patience=4 * timeout)
        self._keys: KeySource
        if jwks is not None and jwks_url is None:
            self._keys = _given_keys(jwks, wanted)
        elif jwks_url is not None and jwks is None:
            url = _checked_url(jwks_url, allow_http=allow_http)
            self._keys = RemoteKeys(
                url, clock=clock, refresh=jwks_refresh, max_age=jwks_max_age, pace=pace, wanted=wanted
            )
        else:
            raise ValueError("give either jwks or jwks_url")
        self._lists = StatusLists(
            issuer,
            self._keys,
            clock=clock,
            max_age=revocation_max_age,
            leeway=leeway,
            pace=pace,
            algorithms=kind.algorithms,
        )
        self._recent = RecentTokens(remember)
        self._require_status = require_status
        self._clock = clock
        self._fetcher = Fetcher(
            clock=clock,
            timeout=timeout,
            ca_file=Path(ca_file) if ca_file is not None else None,
            transport=transport,
            async_transport=async_transport,
        )

    def verify(self, token: str) -> VerifiedToken:
        """Return what the token says, if it is good.

        Args:
            token: The compact JWS, without `Bearer`.

        Raises:
            TokenRejectedError: It is not good; the subclass says why. Answer 401.
            VerificationUnavailableError: The keys or the status list cannot be had. Answer 503; try again later.
        """
        checked = self._check(token)
        return checked if isinstance(checked, VerifiedToken) else self._fetcher.run(checked)

    async def averify(self, token: str) -> VerifiedToken:
        """Do what `verify` does, without blocking the loop."""
        checked = self._check(token)
        return checked if isinstance(checked, VerifiedToken) else await self._fetcher.arun(checked)

    def remembers(self, token: str) -> bool:
        """Return whether this very text was verified a moment ago: whose it is then, not whether it is good still."""
        return self._recent.get(token) is not None

    def _check(self, token: str) -> VerifiedToken | Steps[VerifiedToken]:
        """Return the token, or the steps that bring what is not at hand; nearly always there is nothing to bring."""
        if not isinstance(token, str):
            raise TypeError("a token is text")
        self._fetcher.bury()
        examined = self._recent.get(token)
        if examined is not None and self._keys.peek(examined.token.key_id) is examined.key:
            check_times(examined.token, leeway=self._rules.leeway, now=self._clock.wall())
        else:
            jws = parse_jws(token, limit=_LONGEST_TOKEN, algorithms=self._algorithms)
            check_type(jws.header.typ, self._rules.profile)
            key = self._keys.peek(jws.header.kid)
            if key is None:
                return self._check_with_new_key(token, jws)
            examined = self._examine(token, jws, key)
        if examined.status is None or self._lists.peek(examined.status) == 0:
            return examined.token
        return self._check_status(examined.token, examined.status)

    def _check_with_new_key(self, token: str, jws: Jws) -> Steps[VerifiedToken]:
        examined = self._examine(token, jws, (yield from self._look_up(jws)))
        if examined.status is None:
            return examined.token
        return (yield from self._check_status(examined.token, examined.status))

    def _examine(self, token: str, jws: Jws, key: VerifyingKey) -> Examined:
        check_signature(jws, key)
        verified = read_claims(jws.claims(), key_id=jws.header.kid, rules=self._rules, now=self._clock.wall())
        reference = None
        if "status" in verified.claims:
            reference = self._lists.reference(verified.claims["status"])
        elif self._require_status:
            raise MalformedTokenError("the token has no status claim, so that it could not be revoked")
        examined = Examined(verified, key, reference)
        self._recent.put(token, examined)
        return examined

    def _look_up(self, jws: Jws) -> Steps[VerifyingKey]:
        # The one look at claims that nobody has vouched for: a token that does not even claim to be from our issuer
        # (MOCK mode, another environment) is refused without troubling the issuer.
        if claims_issuer(jws.claims(), self._rules.profile) != self._rules.issuer:
            raise WrongIssuerError("the token was issued by another authority, or in MOCK mode")
        key = yield from self._keys.obtain(jws.header.kid)
        if key is None:
            raise BadSignatureError("the token names a key that the issuer does not have")
        return key

    def _check_status(self, verified: VerifiedToken, reference: StatusReference) -> Steps[VerifiedToken]:
        status = self._lists.peek(reference)
        if status is None:
            status = yield from self._lists.obtain(reference)
        if status is None:
            raise MalformedTokenError("the token's place lies outside its status list")
        if status != 0:
            raise RevokedTokenError("the token has been revoked or suspended")
        return verified


def _rules(issuer: str, audience: str | Iterable[str], profile: Profile, leeway: float) -> Rules:
    audiences = frozenset([audience] if isinstance(audience, str) else audience)
    if not audiences or not all(isinstance(name, str) and name for name in audiences):
        raise ValueError("name at least one audience, and no blank one")
    if profile not in PROFILES:
        raise ValueError(f"the profile must be one of {', '.join(PROFILES)}")
    if PROFILES[profile].svid and not is_trust_domain(issuer):
        raise ValueError("the issuer of the profile jwt-svid is a trust domain: spiffe://example.org")
    if not 0 <= leeway <= _LARGEST_LEEWAY:
        raise ValueError("leeway must be from 0 to 300 seconds")
    return Rules(issuer=issuer, audiences=audiences, profile=profile, leeway=leeway)


def _check_issuer(issuer: str, *, allow_http: bool) -> None:
    if not isinstance(issuer, str) or not issuer or not issuer.isprintable():
        raise ValueError("name the issuer whose tokens to accept")
    if issuer.lower().startswith(("http:", "https:")):
        try:
            check_base_url(issuer, allow_http=allow_http)
        except ValueError as exc:
            raise ConfigurationError(f"the verifier's issuer cannot be used: {exc}") from exc


def _checked_url(url: str, *, allow_http: bool) -> str:
    # Unlike a base URL it may have a query, as some providers' key sets have.
    try:
        query = urlsplit(url).query
        check_base_url(url.removesuffix(f"?{query}"), allow_http=allow_http)
        if not query.isprintable() or not query.isascii() or " " in query or "\\" in query:
            raise ValueError("its query has characters that a URL does not have")
    except ValueError as exc:
        raise ConfigurationError(f"the verifier's jwks_url cannot be used: {exc}") from exc
    return url


def _given_keys(jwks: Mapping[str, Any], wanted: Wanted) -> GivenKeys:
    try:
        return GivenKeys(jwks, wanted)
    except ValueError as exc:
        raise ConfigurationError(f"the verifier's jwks cannot be used: {exc}") from exc
