"""`authsec doctor`: which checks, in which order, and what each is told. The findings are made elsewhere.

Nothing is asked of the network once settings or the first connection have failed: the rest could only fail, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dotenv import dotenv_values

from authsec_core._clock import Clock
from authsec_core._jwks import parse_keys
from authsec_core._jws import parse_json, parse_jws
from authsec_core._parts import Parts
from authsec_core._version import __version__
from authsec_core.cli._arguments import Arguments
from authsec_core.cli._checks import SKIPPED_UNREACHED, check_api, check_authority, check_clock, check_tls, skipped
from authsec_core.cli._grants import ProofKind, check_keys, check_proof, check_scopes, check_token
from authsec_core.cli._observed import Contact, Exchanged, decoded
from authsec_core.cli._outcome import Finding, Outcome, known_secrets, outcome
from authsec_core.cli._probes import Probes
from authsec_core.cli._settings import (
    Setting,
    check_mode,
    check_names,
    check_settings,
    settings_in_force,
    settings_seen,
    unknown_variables,
)
from authsec_core.config import AuthSecConfig
from authsec_core.errors import AuthSecError, ConfigurationError, TokenRejectedError
from authsec_core.mock import MOCK_CLIENT_ID
from authsec_core.source import TokenRequest
from authsec_core.token import MOCK_ISSUER, DelegationToken, Secret
from authsec_core.verify import TokenVerifier

if TYPE_CHECKING:
    from authsec_core.token import Mode

__all__ = ["doctor"]

_TTL: Final = 60.0  # seconds: the token is looked at once and thrown away
_LEEWAY: Final = 300.0  # seconds: a wrong clock has a finding of its own
_LONGEST_TOKEN: Final = 8192  # characters, as `verify` has it
_JWKS: Final = "/authsec/.well-known/jwks.json"
_FIELDS: Final = tuple(AuthSecConfig.model_fields)


@dataclass(slots=True, kw_only=True)
class _Report:
    """What has been found so far."""

    mode: Mode | None = None
    settings: Sequence[Setting] = ()
    findings: list[Finding] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)

    def skip(self, why: str, *checks: str) -> None:
        self.findings += [skipped(check, why) for check in checks]

    def refuse_settings(self, message: str) -> None:
        """Some settings are found wrong only when they are put to use."""
        mend = "mend the setting that it names, then run doctor again"
        self.findings = [finding for finding in self.findings if finding.check != "settings"]
        self.findings.append(Finding(check="settings", status="fail", message=message, mend=mend))

    def outcome(self) -> Outcome:
        failed = any(finding.status == "fail" for finding in self.findings)
        document = {
            "version": __version__,
            "ok": not failed,
            "mode": self.mode,
            "settings": [setting.document() for setting in self.settings],
            "findings": [finding.document() for finding in self.findings],
        }
        return outcome("doctor", document, failed=failed, secrets=self.secrets)


def doctor(arguments: Arguments, clock: Clock, notify: Callable[[str], None]) -> Outcome:
    """Check everything that an agent with these settings depends on.

    Args:
        arguments: `scope` names the scopes that must be granted.
        clock: Ours, which the authority's is held against.
        notify: Told what is being done.
    """
    report = _Report()
    try:
        config = AuthSecConfig(**arguments.settings)
        parts = Parts(config, {}, mock=None, token_cache=None, product=f"authsec-cli/{__version__}", clock=clock)
        report.secrets += known_secrets(config)
        _check_settings(report, config)
        request = TokenRequest.of(arguments.scope, _TTL)
        with Probes(parts) as probes:
            if config.resolved_mode == "mock":
                _check_mock(report, parts, request)
            else:
                _check_authority(report, parts, probes, request, notify)
            _check_api(report, parts, probes, notify)
    except ConfigurationError as exc:
        if not report.settings:
            report.settings = settings_seen(_FIELDS, os.environ)
        report.refuse_settings(exc.message)
    return report.outcome()


def _check_settings(report: _Report, config: AuthSecConfig) -> None:
    report.mode, report.settings = config.resolved_mode, settings_in_force(config)
    names = [*os.environ, *(dotenv_values(config.env_file) if config.env_file else ())]
    report.findings += [check_settings(config), check_mode(config), check_names(unknown_variables(names, _FIELDS))]


def _check_mock(report: _Report, parts: Parts, request: TokenRequest) -> None:
    report.skip("MOCK mode asks no authority", "authority", "tls", "clock", "proof", "keys")
    identity, exchanged = parts.identity, Exchanged()
    try:
        token = parts.mock.mint(
            request.scopes, ttl=request.ttl, client_id=identity.client_id or MOCK_CLIENT_ID, audience=identity.audience
        )
        exchanged = Exchanged(token=token)
    except AuthSecError as exc:
        exchanged = Exchanged(error=exc)
    report.findings.append(check_scopes(exchanged, request.scopes, _mapped(parts.config)))
    if exchanged.token is None:
        report.skip("there is no token", "token")
        return
    report.secrets.append(exchanged.token.secret)
    report.findings.append(_verified(parts, exchanged.token, MOCK_ISSUER, parts.mock.jwks()))


def _check_authority(
    report: _Report, parts: Parts, probes: Probes, request: TokenRequest, notify: Callable[[str], None]
) -> None:
    root = parts.identity.base_url.removesuffix("/authsec")
    notify("Asking the authority for its keys")
    keys = probes.knock(root + _JWKS)
    if keys.unreached:
        report.findings.append(check_authority([keys]))
        report.findings.append(check_tls("tls", "AUTHSEC_BASE_URL", [keys], now=parts.clock.wall()))
        report.skip(SKIPPED_UNREACHED, "clock", "proof", "scopes", "keys", "token")
        return
    notify("Asking the authority for a token")
    exchanged = probes.exchange(request)
    contacts = [keys, *([exchanged.contact] if exchanged.contact else [])]
    report.findings.append(check_authority(contacts))
    report.findings.append(check_tls("tls", "AUTHSEC_BASE_URL", contacts, now=parts.clock.wall()))
    report.findings.append(_clock(contacts, exchanged.token))
    report.findings.append(check_proof(exchanged, _proof_kind(parts.config)))
    report.findings.append(check_scopes(exchanged, request.scopes, _mapped(parts.config)))
    _check_keys(report, parts, keys, exchanged.token, root, notify)


def _check_keys(
    report: _Report,
    parts: Parts,
    contact: Contact,
    token: DelegationToken | None,
    root: str,
    notify: Callable[[str], None],
) -> None:
    jwks: Mapping[str, Any] = {}
    found: Iterable[str] | str
    try:
        jwks = parse_json(contact.body)
        found = list(parse_keys(jwks))
    except ValueError as exc:
        found = str(exc)
    report.findings.append(check_keys(contact, found, None if token is None else _key_id(token)))
    if token is None:
        report.skip("there is no token", "token")
        return
    report.secrets.append(token.secret)
    if not found or isinstance(found, str):
        report.skip("there are no keys to verify it with", "token")
        return
    notify("Verifying the token")
    report.findings.append(_verified(parts, token, parts.config.issuer or f"{root}/authsec", jwks))


def _verified(parts: Parts, token: DelegationToken, issuer: str, jwks: Mapping[str, Any]) -> Finding:
    named = parts.config.issuer is not None
    audience = [parts.config.audience] if parts.config.audience else [name for name in token.audience if name]
    if not audience:
        return Finding(
            check="token",
            status="fail",
            message="it has no audience, and verifiers refuse that",
            mend="set AUTHSEC_AUDIENCE to the name that the API verifies tokens for",
        )
    try:
        verifier = TokenVerifier(
            issuer=issuer,
            audience=audience,
            jwks=jwks,
            leeway=_LEEWAY,
            timeout=parts.config.timeout,
            ca_file=parts.config.ca_file,
            allow_http=parts.config.allow_http,
            clock=parts.clock,
        )
        return check_token(verifier.verify(token.value), named_issuer=named)
    except AuthSecError as exc:
        return check_token(exc, named_issuer=named)


def _check_api(report: _Report, parts: Parts, probes: Probes, notify: Callable[[str], None]) -> None:
    url = parts.config.api_base_url
    if parts.offline or url is None:
        why = "MOCK mode answers with sample data" if parts.offline else "AUTHSEC_API_BASE_URL is unset: fetch needs it"
        report.skip(why, "api", "api_tls")
        return
    notify("Knocking at the API")
    contact = probes.knock(url)
    report.findings.append(check_api(contact))
    report.findings.append(check_tls("api_tls", "AUTHSEC_API_BASE_URL", [contact], now=parts.clock.wall()))


def _clock(contacts: Sequence[Contact], token: DelegationToken | None) -> Finding:
    answered = next((contact for contact in reversed(contacts) if contact.status is not None), contacts[-1])
    issued_at = None if token is None else decoded(token)[1].get("iat")
    told = issued_at if isinstance(issued_at, (int, float)) and not isinstance(issued_at, bool) else None
    return check_clock(answered, told)


def _proof_kind(config: AuthSecConfig) -> ProofKind:
    if config.agent_key is not None:
        return "agent key"
    return "none" if config.workload_token_file is None else "workload token"


def _mapped(config: AuthSecConfig) -> frozenset[str]:
    return frozenset().union(*(config.endpoint_scopes or {}).values())


def _key_id(token: DelegationToken) -> str | None:
    try:
        return parse_jws(token.value, limit=_LONGEST_TOKEN).header.kid
    except TokenRejectedError:  # the verifier says more of it
        return None
