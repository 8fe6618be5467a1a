from __future__ import annotations

from typing import Any

import httpx
import pytest

from authsec_core.errors import ConfigurationError
from authsec_core.testing._signing import first_key
from authsec_core.verify import TokenVerifier

ISSUER = "https://issuer.example/authsec"


def _verifier(**changes: Any) -> TokenVerifier:
    usual = {"issuer": ISSUER, "audience": "authsec-api", "jwks_url": f"{ISSUER}/.well-known/jwks.json"}
    return TokenVerifier(**{**usual, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks": {"keys": []}},
        {"jwks_url": None},
        {"audience": ""},
        {"audience": []},
        {"audience": [""]},
        {"audience": [3]},
        {"issuer": ""},
        {"issuer": "a\nb"},
        {"profile": "jwt"},
        {"profile": "jwt-svid"},
        {"profile": "jwt-svid", "issuer": "spiffe://"},
        {"profile": "jwt-svid", "issuer": "spiffe://example.org/"},
        {"profile": "jwt-svid", "issuer": "spiffe://example.org/workload"},
        {"profile": "jwt-svid", "issuer": "spiffe://Example.org"},
        {"leeway": -1},
        {"leeway": 301},
        {"leeway": float("nan")},
        {"revocation_max_age": 0},
        {"revocation_max_age": float("inf")},
        {"revocation_max_age": float("nan")},
        {"jwks_refresh": 0},
        {"jwks_max_age": 299},
        {"jwks_max_age": float("inf")},
        {"cooldown": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"remember": -1},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_the_programmers_mistake(changes: dict[str, Any]) -> None:
    """Contradictions and numbers out of range are a ValueError at construction."""
    with pytest.raises(ValueError, match=r"\w"):
        _verifier(**changes)


@pytest.mark.req("RS3")
@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_url": "http://issuer.example/jwks"},
        {"jwks_url": "http://10.0.0.1/jwks"},
        {"jwks_url": "http://localhost.evil.example/jwks"},
        {"jwks_url": "ftp://issuer.example/jwks"},
        {"jwks_url": "/jwks"},
        {"jwks_url": ""},
        {"jwks_url": "https://[::1/jwks"},
        {"jwks_url": "https://issuer.example:port/jwks"},
        {"jwks_url": "https://user:pw@issuer.example/jwks"},
        {"jwks_url": "https://issuer.example/jwks#x"},
        {"jwks_url": "https://issuer.example/jw ks"},
        {"jwks_url": "https://issuer.example/jwks?a=\n"},
        {"jwks_url": "https://issuer.example/jwks?a=\\b"},
        {"jwks_url": "https://issuer.example\\@evil.example/jwks"},
        {"issuer": "http://issuer.example/authsec"},
        {"issuer": "https://issuer.example/authsec?x=1"},
        {"issuer": "https://user@issuer.example/"},
        {"ca_file": "/nonexistent/ca.pem"},
        {"ca_file": __file__},
    ],
    ids=str,
)
def test_unsafe_places_are_refused_at_construction(changes: dict[str, Any]) -> None:
    """Plain http beyond loopback, odd URLs and an unreadable CA file: a ConfigurationError that quotes no secret."""
    with pytest.raises(ConfigurationError) as caught:
        _verifier(**changes)
    assert "pw" not in str(caught.value)


@pytest.mark.req("RS3")
@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_url": "http://127.0.0.1:8000/jwks"},
        {"jwks_url": "http://[::1]/jwks"},
        {"jwks_url": "http://localhost/jwks"},
        {"jwks_url": "http://issuer.example/jwks", "allow_http": True},
        {"jwks_url": "https://issuer.example/keys?p=policy"},
        {"issuer": "accounts.example"},
        {"issuer": "spiffe://example.org", "profile": "jwt-svid"},
        {"issuer": "http://issuer.example/", "allow_http": True},
    ],
    ids=str,
)
def test_safe_places_are_accepted(changes: dict[str, Any]) -> None:
    """TLS anywhere, http to loopback or where it is allowed, and key sets that have a query."""
    _verifier(**changes)


@pytest.mark.req("RV1")
def test_a_weak_given_key_is_a_configuration_error() -> None:
    """What `parse_keys` refuses is refused at construction, with the reason."""
    with pytest.raises(ConfigurationError, match="exponent"):
        _verifier(jwks_url=None, jwks={"keys": [{**first_key().jwk, "e": "Aw"}]})


def test_constructing_a_verifier_does_nothing() -> None:
    """No request is made before the first token."""

    def refuse(request: httpx.Request) -> httpx.Response:
        pytest.fail(f"it asked for {request.url}")

    _verifier(transport=httpx.MockTransport(refuse))
    _verifier(transport=httpx.MockTransport(refuse), jwks_url=None, jwks={"keys": [dict(first_key().jwk)]})
