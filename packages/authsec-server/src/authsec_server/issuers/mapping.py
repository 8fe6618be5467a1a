"""What does a verified token of a registered issuer say: which workload, or which user? Pure.

A token that does not say all that its kind says is refused, so that no selector rests on half a name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final

from authsec_core.errors import MalformedTokenError
from authsec_core.verify import VerifiedToken
from authsec_core.wire import is_plain
from authsec_server.issuers.identity import UserIdentity, WorkloadIdentity
from authsec_server.issuers.values import RegisteredIssuer

__all__ = ["user_of", "workload_of"]

_LONGEST_USER: Final = 255  # characters (OpenID Connect Core section 2)
_KUBERNETES: Final = "kubernetes.io"


def workload_of(issuer: RegisteredIssuer, token: VerifiedToken) -> WorkloadIdentity:
    """Return the workload that a token names, with all that it proves.

    Raises:
        MalformedTokenError: It names none as tokens of this kind of issuer do.
    """
    return WorkloadIdentity(
        issuer_id=issuer.issuer_id,
        revision=issuer.revision,
        issuer_name=issuer.name,
        subject=token.subject,
        selectors=dict(_SELECTORS[issuer.kind](issuer, token)),
        is_default=issuer.is_default,
        expires_at=token.expires_at,
    )


def user_of(issuer: RegisteredIssuer, token: VerifiedToken) -> UserIdentity:
    """Return the user that a token names.

    Raises:
        MalformedTokenError: It names none, or what could pass for a workload.
    """
    subject = token.subject
    # As people would read it: neither a blank in front nor a wider letter may hide what it looks like.
    alike = unicodedata.normalize("NFKC", subject).strip().casefold()
    if len(subject) > _LONGEST_USER or subject != subject.strip() or alike.startswith("spiffe:"):
        raise MalformedTokenError("the token's claim sub is not that of a user")
    return UserIdentity(
        issuer_id=issuer.issuer_id,
        revision=issuer.revision,
        issuer_name=issuer.name,
        issuer=token.issuer,
        subject=token.subject,
        may_act=_may_act(_object(token.claims, "may_act")) if "may_act" in token.claims else None,
        expires_at=token.expires_at,
    )


def _may_act(named: Mapping[str, Any]) -> str:
    # An actor whom another issuer knows by this name (RFC 8693 section 4.4) is none of our agents.
    if "iss" in named:
        raise MalformedTokenError("the token's claim may_act names an actor of another issuer")
    return _text(named, "sub")


def _of_kubernetes(issuer: RegisteredIssuer, token: VerifiedToken) -> Iterator[tuple[str, str]]:
    """Read what the API server writes into the tokens that the kubelet projects into a pod.

    https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
    """
    said = _object(token.claims, _KUBERNETES)
    namespace, account, pod = _text(said, "namespace"), _object(said, "serviceaccount"), _object(said, "pod")
    name = _text(account, "name")
    if token.subject != f"system:serviceaccount:{namespace}:{name}" or not _text(account, "uid"):
        raise MalformedTokenError("the token's claims sub and kubernetes.io do not agree")
    yield "k8s:cluster", issuer.name
    yield "k8s:ns", namespace
    yield "k8s:sa", name
    yield "k8s:pod-name", _text(pod, "name")
    yield "k8s:pod-uid", _text(pod, "uid")
    if "node" in said:  # clusters before 1.30 do not name it
        yield "k8s:node-name", _text(_object(said, "node"), "name")


def _of_spiffe(_issuer: RegisteredIssuer, token: VerifiedToken) -> Iterator[tuple[str, str]]:
    yield "spiffe:id", token.subject


def _of_oidc(issuer: RegisteredIssuer, token: VerifiedToken) -> Iterator[tuple[str, str]]:
    for name in issuer.claims:
        value = token.claims.get(name)
        if isinstance(value, (bool, int)):
            yield f"oidc:{name}", str(value).lower()
        elif isinstance(value, str):
            yield f"oidc:{name}", value
    # Last, so that no list of claims can make them something else.
    yield "oidc:iss", token.issuer
    yield "oidc:sub", token.subject


_SELECTORS: Final = {"kubernetes": _of_kubernetes, "spiffe": _of_spiffe, "oidc": _of_oidc}


def _object(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = members.get(name)
    if not isinstance(value, Mapping):
        raise MalformedTokenError(f"the token's claim {name} is missing or not an object")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value or not is_plain(value):
        raise MalformedTokenError(f"a {name} in the token's claims is missing or not plain text")
    return value
