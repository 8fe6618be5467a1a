"""What verified tokens say: which selectors they prove, which users they name, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from authsec_core.errors import MalformedTokenError
from authsec_core.verify import VerifiedToken
from authsec_server.issuers.identity import IssuerKind
from authsec_server.issuers.mapping import user_of, workload_of
from authsec_server.issuers.values import RegisteredIssuer

POD: dict[str, Any] = {
    "namespace": "production",
    "node": {"name": "node-1", "uid": "n-1"},
    "pod": {"name": "support-1", "uid": "p-1"},
    "serviceaccount": {"name": "support-sa", "uid": "s-1"},
}


def _issuer(kind: IssuerKind, *claims: str, is_default: bool = False) -> RegisteredIssuer:
    return RegisteredIssuer(
        issuer_id="wli_0123456789abcdef",
        name="main",
        kind=kind,
        issuer="https://issuer.example",
        audience="us",
        jwks_url="https://issuer.example/keys",
        jwks=None,
        claims=claims,
        is_default=is_default,
        enabled=True,
        revision=3,
        created_at=0.0,
        created_by="ada",
        revoked_at=None,
    )


def _frozen(value: Any) -> Any:
    return MappingProxyType({n: _frozen(v) for n, v in value.items()}) if isinstance(value, dict) else value


def _token(subject: str, claims: Mapping[str, Any]) -> VerifiedToken:
    return VerifiedToken(
        issuer="https://issuer.example",
        subject=subject,
        audience=("us",),
        client_id=None,
        scopes=frozenset(),
        roles=(),
        jti=None,
        issued_at=1,
        expires_at=600,
        key_id="k",
        actor=None,
        claims=_frozen(dict(claims)),
    )


def _pod(**changes: Any) -> VerifiedToken:
    said = {name: value for name, value in {**POD, **changes}.items() if value is not ...}
    return _token("system:serviceaccount:production:support-sa", {"kubernetes.io": said})


def test_a_pods_token_proves_where_it_runs() -> None:
    """Cluster, namespace, account, pod and node, with what the decision has to look at again."""
    found = workload_of(_issuer("kubernetes", is_default=True), _pod())
    assert found.selectors == {
        "k8s:cluster": "main",
        "k8s:ns": "production",
        "k8s:sa": "support-sa",
        "k8s:pod-name": "support-1",
        "k8s:pod-uid": "p-1",
        "k8s:node-name": "node-1",
    }
    assert (found.issuer_id, found.revision, found.issuer_name) == ("wli_0123456789abcdef", 3, "main")
    assert (found.is_default, found.expires_at) == (True, 600)
    assert "k8s:node-name" not in workload_of(_issuer("kubernetes"), _pod(node=...)).selectors


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": ...},
        {"namespace": "staging"},
        {"namespace": 7},
        {"namespace": ""},
        {"serviceaccount": ...},
        {"serviceaccount": "support-sa"},
        {"serviceaccount": {"name": "other-sa", "uid": "s-1"}},
        {"serviceaccount": {"name": "support-sa"}},
        {"serviceaccount": {"uid": "s-1"}},
        {"pod": ...},
        {"pod": {"name": "support-1"}},
        {"pod": {"name": "support-1\n", "uid": "p-1"}},
        {"node": {}},
        {"node": None},
    ],
    ids=str,
)
def test_half_a_pod_is_none(change: dict[str, Any]) -> None:
    """A claim that is missing, odd, or says something else than `sub`, refuses the token."""
    with pytest.raises(MalformedTokenError):
        workload_of(_issuer("kubernetes"), _pod(**change))


@pytest.mark.parametrize("subject", ["system:serviceaccount:production", "support-sa", "system:node:node-1", "a:b:c:d"])
def test_only_service_accounts_are_pods(subject: str) -> None:
    """Nobody else's token of the cluster says that a pod asks."""
    for claims in ({"kubernetes.io": POD}, {}, {"kubernetes.io": "production"}):
        with pytest.raises(MalformedTokenError):
            workload_of(_issuer("kubernetes"), _token(subject, claims))


def test_an_svid_proves_its_spiffe_id() -> None:
    """That alone."""
    token = _token("spiffe://example.org/a", {"kubernetes.io": POD})
    assert workload_of(_issuer("spiffe"), token).selectors == {"spiffe:id": "spiffe://example.org/a"}


def test_listed_claims_prove_what_has_one_spelling() -> None:
    """Text as it is, booleans and whole numbers as JSON has them; the rest is not there, and `iss` and `sub` stay."""
    claims = {"a": "x", "b": True, "c": 7, "d": 1.5, "e": ("x",), "f": None, "g": {"h": 1}, "unlisted": "y",
              "sub": "forged", "iss": "forged"}  # fmt: skip
    found = workload_of(
        _issuer("oidc", "a", "b", "c", "d", "e", "f", "g", "missing", "sub", "iss"), _token("me", claims)
    )
    assert found.selectors == {
        "oidc:a": "x",
        "oidc:b": "true",
        "oidc:c": "7",
        "oidc:iss": "https://issuer.example",
        "oidc:sub": "me",
    }


def test_a_user_is_named_by_issuer_and_subject() -> None:
    """`may_act.sub` is taken over; without it anyone may act."""
    found = user_of(_issuer("users"), _token("ada", {"may_act": {"sub": "spiffe://example.org/agent"}}))
    assert (found.issuer, found.subject, found.may_act) == (
        "https://issuer.example",
        "ada",
        "spiffe://example.org/agent",
    )
    assert (found.issuer_id, found.revision, found.issuer_name, found.expires_at) == (
        "wli_0123456789abcdef",
        3,
        "main",
        600,
    )
    assert user_of(_issuer("users"), _token("a" * 255, {})).may_act is None


@pytest.mark.parametrize(
    ("subject", "claims"),
    [
        ("spiffe://example.org/ns/production/sa/support-sa", {}),
        ("SPIFFE://example.org/a", {}),
        ("spiffe:a", {}),
        ("a" * 256, {}),
        ("ada", {"may_act": None}),
        ("ada", {"may_act": "spiffe://example.org/agent"}),
        ("ada", {"may_act": {}}),
        ("ada", {"may_act": {"sub": "spiffe://example.org/agent", "iss": "https://elsewhere.example"}}),
        (" ada", {}),
        (" spiffe://example.org/agent", {}),
        ("\uff33piffe://example.org/agent", {}),
        ("ada", {"may_act": {"sub": ""}}),
        ("ada", {"may_act": {"sub": ["a"]}}),
        ("ada", {"may_act": {"sub": "a\nb"}}),
    ],
)
def test_what_is_no_user_is_refused(subject: str, claims: dict[str, Any]) -> None:
    """A subject that could pass for a workload, one that is too long, and a `may_act` that names nobody."""
    with pytest.raises(MalformedTokenError):
        user_of(_issuer("users"), _token(subject, claims))
