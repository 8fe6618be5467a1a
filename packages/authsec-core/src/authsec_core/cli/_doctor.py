"""`authsec doctor`: which checks, in which order, and what each is told. The findings are made elsewhere.

Nothing is asked of the network once settings or the first connection have failed: the rest could only fail, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dotenv import dotenv_values

from authsec_core._clock import Clock
from authsec_core._jwks import parse_keys
from authsec_core._jws import parse_json, parse_jws
from authsec_core._options import Options
from authsec_core._parts import Parts
from authsec_core._version import __version__
from authsec_core.cli._arguments import Arguments
from authsec_core.cli._checks import SKIPPED_UNREACHED, check_api, check_authority, check_clock, check_tls
from authsec_core.cli._grants import ProofKind, check_keys, check_proof, check_scopes, check_token
from authsec_core.cli._observed import Contact, Exchanged, decoded
from authsec_core.cli._outcome import Finding, Outcome, known_secrets
from authsec_core.cli._probes import Probes
from authsec_core.cli._report import Report
from authsec_core.cli._settings import (
    check_mode,
    check_names,
    check_settings,
    settings_in_force,
    settings_seen,
    unknown_variables,
)
from authsec_core.cli._vault_doctor import check_vault, vault_alone
from authsec_core.config import AuthSecConfig
from authsec_core.errors import AuthSecError, ConfigurationError, TokenRejectedError
from authsec_core.mock import MOCK_CLIENT_ID
from authsec_core.source import TokenRequest
from authsec_core.token import MOCK_ISSUER, DelegationToken
from authsec_core.verify import TokenVerifier

if TYPE_CHECKING:
    pass

__all__ = ["doctor"]

_TTL: Final = 60.0  # seconds: the token is looked at once and thrown away
_LEEWAY: Final = 300.0  # seconds: a wrong clock has a finding of its own
_LONGEST_TOKEN: Final = 8192  # characters, as `verify` has it
_JWKS: Final = "/authsec/.well-known/jwks.json"
_PRODUCT: Final = f"authsec-cli/{__version__}"
_DELEGATION: Final = ("authority", "tls", "clock", "proof", "scopes", "keys", "token", "api", "api_tls")
_FIELDS: Final = tuple(AuthSecConfig.model_fields)


def doctor(arguments: Arguments, clock: Clock, notify: Callable[[str], None]) -> Outcome:
    """Check everything that an agent with these settings depends on.

    Args:
        arguments: `scope` names the scopes that must be granted.
        clock: Ours, which the authority's is held against.
        notify: Told what is being done.
    """
    report = Report()
    try:
        alone = vault_alone(arguments.env_file)
        config = AuthSecConfig(**arguments.settings) if alone is None else alone
        parts = None
        if alone is None:
            parts = Parts(config, {}, mock=None, token_cache=None, product=_PRODUCT, clock=clock)
        report.secrets += known_secrets(config)
        _check_settings(report, config)
        options = Options(config, _PRODUCT) if parts is None else parts.options
        with Probes(options, clock, timeout=config.timeout) as probes:
            if parts is None:
                report.skip("the vault is all that is configured", *_DELEGATION)
            else:
                _check_delegation(report, parts, probes, TokenRequest.of(arguments.scope, _TTL), notify)
            check_vault(report, arguments.env_file, probes, clock, notify)
    except ConfigurationError as exc:
        if not report.settings:
            report.settings = settings_seen(_FIELDS, os.environ)
        report.refuse_settings(exc.message)
    return report.outcome()


def _check_delegation(
    report: Report, parts: Parts, probes: Probes, request: TokenRequest, notify: Callable[[str], None]
) -> None:
    if parts.config.resolved_mode == "mock":
        _check_mock(report, parts, request)
    else:
        _check_authority(report, parts, probes, request, notify)
    _check_api(report, parts, probes, notify)


def _check_settings(report: Report, config: AuthSecConfig) -> None:
    report.mode, report.settings = config.resolved_mode, settings_in_force(config)
    names = [*os.environ, *(dotenv_values(config.env_file) if config.env_file else ())]
    report.findings += [check_settings(config), check_mode(config), check_names(unknown_variables(names, _FIELDS))]


def _check_mock(report: Report, parts: Parts, request: TokenRequest) -> None:
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
    report: Report, parts: Parts, probes: Probes, request: TokenRequest, notify: Callable[[str], None]
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
    exchanged = probes.exchange(parts, request)
    contacts = [keys, *([exchanged.contact] if exchanged.contact else [])]
    report.findings.append(check_authority(contacts))
    report.findings.append(check_tls("tls", "AUTHSEC_BASE_URL", contacts, now=parts.clock.wall()))
    report.findings.append(_clock(contacts, exchanged.token))
    report.findings.append(check_proof(exchanged, _proof_kind(parts.config)))
    report.findings.append(check_scopes(exchanged, request.scopes, _mapped(parts.config)))
    _check_keys(report, parts, keys, exchanged.token, root, notify)


def _check_keys(
    report: Report,
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


def _check_api(report: Report, parts: Parts, probes: Probes, notify: Callable[[str], None]) -> None:
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
