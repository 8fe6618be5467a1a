"""Whose tokens does a guard accept, and on which terms? Values; the terms are checked when the guard is made.

How tokens are verified is for `authsec_core.verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from authsec_core._clock import Clock
from authsec_core.errors import ConfigurationError
from authsec_core.verify import Profile, TokenVerifier
from authsec_fastapi._policy_checks import shown
from authsec_fastapi.introspection import Introspection, Introspector
from authsec_fastapi.principal import ClaimPath

if TYPE_CHECKING:
    import httpx

__all__ = ["RevocationCheck", "TrustedIssuer"]

RevocationCheck: TypeAlias = Literal["required", "when-present", "introspection"]
_CHECKS = ("required", "when-present", "introspection")
_OURS = ("delegation", "at+jwt")
_JWKS = "/.well-known/jwks.json"
_INTROSPECT = "/oauth2/introspect"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """An issuer, what its tokens look like, and how long something old counts.

    Two of them may have the same `issuer` and different profiles.

    Attributes:
        issuer: Must equal the token's `iss`.
        audience: One of these must be in the token's `aud`: the name of your API.
        jwks_url: Where it publishes its keys; with the profiles `delegation` and `at+jwt` by default the authority's.
        jwks: Its keys, instead of a URL.
        profile: As for `TokenVerifier`: `delegation`, `at+jwt`, `oidc` for an identity provider, or `jwt-svid`.
        roles_claim: Where its tokens say the roles: a name, dots for what lies within (`realm_access.roles`), or a
            tuple of names where one has a dot: `("https://shop.example/roles",)`.
        scopes_claim: Where its tokens say the scopes, if that is neither `scope` nor `permissions`, such as `scp`. Of a
            token that has those too, only what both grant counts.
        revocation: `required` refuses a token that could not be revoked; `when-present` does not; `introspection` asks
            the issuer about each token. Where a token says how it can be revoked, that is always checked. By default
            it is required with the profiles of our own authority.
        introspection: Where and as whom to ask; needed with `revocation="introspection"`.
        leeway: Seconds by which its clock may differ from ours.
        revocation_max_age: Seconds after which a status list that cannot be renewed counts for nothing.
        jwks_refresh: Seconds after which a withdrawn key is refused, while the issuer answers.
        jwks_max_age: Seconds for which the keys serve while the issuer does not answer.
        cooldown: Seconds between two fetches after one that failed or was in vain.
        remember: How many verified tokens to know again, which spares the signature.
        timeout: Seconds for one fetch.
        ca_file: A PEM file of the authorities to trust instead of the usual ones.
        allow_http: Allow `http` beyond loopback, where anyone on the way can exchange the keys.
    """

    issuer: str
    audience: str | tuple[str, ...]
    jwks_url: str | None = None
    jwks: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    profile: Profile = "delegation"
    roles_claim: ClaimPath = "roles"
    scopes_claim: ClaimPath | None = None
    revocation: RevocationCheck | None = None
    introspection: Introspection | None = None
    leeway: float = 5.0
    revocation_max_age: float = 5.0
    jwks_refresh: float = 300.0
    jwks_max_age: float = 3600.0
    cooldown: float = 5.0
    remember: int = 1024
    timeout: float = 5.0
    ca_file: str | Path | None = None
    allow_http: bool = False

    def verifier(
        self,
        *,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
    ) -> TokenVerifier:
        """Return what verifies its tokens. It fetches nothing yet.

        Raises:
            ConfigurationError: The terms contradict each other, or are unsafe.
        """
        self._check_terms()
        try:
            return TokenVerifier(
                issuer=self.issuer,
                audience=self.audience,
                jwks=self.jwks,
                jwks_url=self._jwks_url(),
                profile=self.profile,
                leeway=self.leeway,
                require_status=(self.revocation or self._usual_check) == "required",
                revocation_max_age=self.revocation_max_age,
                jwks_refresh=self.jwks_refresh,
                jwks_max_age=self.jwks_max_age,
                cooldown=self.cooldown,
                remember=self.remember,
                timeout=self.timeout,
                ca_file=self.ca_file,
                allow_http=self.allow_http,
                transport=transport,
                async_transport=async_transport,
                clock=clock,
            )
        except ValueError as exc:
            raise ConfigurationError(f"the issuer {self.issuer!r} cannot be trusted on these terms: {exc}") from exc

    def introspector(
        self,
        *,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
    ) -> Introspector | None:
        """Return what asks it about its tokens, if these are the terms.

        Raises:
            ConfigurationError: As `verifier`.
        """
        self._check_terms()
        if self.introspection is None:
            return None
        return Introspector(
            self.introspection,
            url=self._introspection_url(self.introspection),
            clock=clock,
            timeout=self.timeout,
            ca_file=self.ca_file,
            transport=transport,
            async_transport=async_transport,
        )

    @property
    def workloads(self) -> str | None:
        """What the SPIFFE IDs begin with for which it may speak.

        Our authority knows the workloads of several domains, a trust domain its own. An identity provider lets users
        be called what they like, also as another issuer's workloads are: it speaks for none.
        """
        if self.profile in _OURS:
            return "spiffe://"
        return f"{self.issuer}/" if self.profile == "jwt-svid" else None

    def _check_terms(self) -> None:
        if not isinstance(self.issuer, str) or not isinstance(self.audience, (str, tuple, list, set, frozenset)):
            raise ConfigurationError("an issuer is one text, and an audience one or several: the names of your API")
        # A typo must not mean "open".
        if self.revocation is not None and self.revocation not in _CHECKS:
            raise ConfigurationError(f"revocation is one of {', '.join(_CHECKS)}, not {self.revocation!r}")
        if (self.revocation == "introspection") != (self.introspection is not None):
            raise ConfigurationError(
                f"revocation='introspection' and introspection= go together: give both for {self.issuer!r}, or neither"
            )
        for path in (self.roles_claim, self.scopes_claim):
            names = path.split(".") if isinstance(path, str) else path
            if names is not None and not (names and all(names)):
                raise ConfigurationError(f"the path {path!r} to a claim of {self.issuer!r} has a blank name in it")

    @property
    def _usual_check(self) -> RevocationCheck:
        return "required" if self.profile in _OURS else "when-present"

    def _below(self, path: str) -> str:
        # Else whoever forgot the scheme is told what is wrong with a URL that they never gave.
        if not self.issuer.lower().startswith(("https://", "http://")):
            raise ConfigurationError(
                f"the issuer {shown(self.issuer)} is no URL: the authority's has https:// before it, and /authsec at "
                "its end, as it stands in the tokens' iss"
            )
        return self.issuer.rstrip("/") + path

    def _introspection_url(self, terms: Introspection) -> str:
        if terms.url is not None:
            return terms.url
        if self.profile in _OURS:
            return self._below(_INTROSPECT)
        raise ConfigurationError(
            f"say url= for the introspection of {self.issuer!r}: an identity provider names it as "
            "introspection_endpoint in its /.well-known/openid-configuration"
        )

    def _jwks_url(self) -> str | None:
        if self.jwks_url is not None or self.jwks is not None:
            return self.jwks_url
        if self.profile in _OURS:
            return self._below(_JWKS)
        raise ConfigurationError(
            f"say jwks_url for {self.issuer!r}: where it publishes its keys. An identity provider names it as jwks_uri "
            "in its /.well-known/openid-configuration"
        )
