"""Which SPIFFE ID does an agent get, and which selectors may describe where it runs? Pure; it attests nothing.

Every segment of the path comes from what an operator entered or the authority generated, and is checked again here,
because it becomes the `sub` of tokens. SPIFFE-ID sections 2.1 to 2.3:
https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from authsec_core.wire import is_plain

__all__ = ["PLATFORMS", "check_selectors", "spiffe_id"]

_LONGEST_ID = 2048  # bytes (SPIFFE-ID section 2.3)
_LONGEST_TRUST_DOMAIN = 255  # bytes (SPIFFE-ID section 2.1)
_MOST_SELECTORS = 32
_LONGEST_NAME = 317  # characters of a label's name: what Kubernetes allows, prefix/name
_LONGEST_VALUE = 512  # characters

_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_NAME = re.compile(r"[a-zA-Z0-9._/-]+")

_NAMESPACE, _SERVICE_ACCOUNT, _CLUSTER = "k8s:ns", "k8s:sa", "k8s:cluster"

# The names are SPIRE's, except for `k8s:cluster` and those that any issuer's tokens prove. One that ends in a colon is
# completed by a name of the operator's own: `k8s:pod-label:app`.
_ANYWHERE = ("oidc:", "spiffe:id")
_KUBERNETES = (
    *_ANYWHERE,
    _NAMESPACE,
    _SERVICE_ACCOUNT,
    "k8s:cluster",
    "k8s:container-image",
    "k8s:container-name",
    "k8s:node-name",
    "k8s:pod-label:",
    "k8s:pod-name",
    "k8s:pod-owner:",
    "k8s:pod-uid",
)
_UNIX = ("unix:gid", "unix:group", "unix:path", "unix:sha256", "unix:uid", "unix:user")
_DOCKER = ("docker:env:", "docker:image_id", "docker:label:")
_MACHINE = (*_ANYWHERE, *_DOCKER, *_UNIX)

PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "kubernetes": _KUBERNETES,
    "docker": _MACHINE,
    "aws": ("aws_iid:iamrole", "aws_iid:sg:id", "aws_iid:sg:name", "aws_iid:tag:", *_MACHINE),
    "gcp": (
        "gcp_iit:instance-name",
        "gcp_iit:label:",
        "gcp_iit:project-id",
        "gcp_iit:sa",
        "gcp_iit:tag",
        "gcp_iit:zone",
        *_MACHINE,
    ),
    "azure": (
        "azure_imds:resource-group",
        "azure_imds:subscription-id",
        "azure_imds:vm-location",
        "azure_imds:vm-name",
        "azure_imds:vm-tag:",
        *_MACHINE,
    ),
    "vm": _MACHINE,
    "other": _MACHINE,
}
"""The platforms that an agent may run on, and which selectors each of them knows."""


def spiffe_id(trust_domain: str, tenant_id: str, agent_type: str, client_id: str, selectors: Mapping[str, str]) -> str:
    """Return the identity of one agent: its service account where it has one, else the client itself.

    Two clients with the same cluster, namespace and service account have the same identity.

    Raises:
        ValueError: A part cannot stand in a SPIFFE ID; the text says which selector or name to mend.

    >>> spiffe_id("example.org", "t1", "mcp-agent", "c1", {"k8s:ns": "production", "k8s:sa": "support-sa"})
    'spiffe://example.org/ns/production/sa/support-sa'
    >>> spiffe_id("example.org", "t1", "mcp-agent", "c1", {})
    'spiffe://example.org/tenants/t1/agents/mcp-agent/c1'
    """
    if len(trust_domain) > _LONGEST_TRUST_DOMAIN or not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise ValueError("the trust domain must be 1 to 255 of a-z, 0-9, '.', '_' and '-'")
    if _NAMESPACE in selectors and _SERVICE_ACCOUNT in selectors:
        namespace = _segment(f"selector {_NAMESPACE}", selectors[_NAMESPACE])
        account = _segment(f"selector {_SERVICE_ACCOUNT}", selectors[_SERVICE_ACCOUNT])
        path, parts = f"ns/{namespace}/sa/{account}", f"selectors {_NAMESPACE} and {_SERVICE_ACCOUNT}"
        if _CLUSTER in selectors:  # where another account of the same name may be somebody else
            path = f"cluster/{_segment(f'selector {_CLUSTER}', selectors[_CLUSTER])}/{path}"
    else:
        tenant, kind = _segment("tenant_id", tenant_id), _segment("agent_type", agent_type)
        path = f"tenants/{tenant}/agents/{kind}/{_segment('client_id', client_id)}"
        parts = "tenant_id, agent_type and client_id"
    identity = f"spiffe://{trust_domain}/{path}"
    if len(identity) > _LONGEST_ID:  # all of it is ASCII
        raise ValueError(f"{parts}: the SPIFFE ID is longer than {_LONGEST_ID} bytes; shorten them")
    return identity


def check_selectors(platform: str, selectors: Mapping[str, str]) -> None:
    """Check what an operator entered about where an agent runs.

    A value is compared exactly, so it is visible ASCII (one spelling only), and `*` and `?`, which would look like
    wildcards, are refused.

    Raises:
        ValueError: The platform or a selector is not known, or a value cannot be one. The text names the selector and
            quotes no value.
    """
    known = PLATFORMS.get(platform)
    if known is None:
        raise ValueError(f"platform must be one of {', '.join(PLATFORMS)}")
    if len(selectors) > _MOST_SELECTORS:
        raise ValueError(f"at most {_MOST_SELECTORS} selectors describe one agent")
    for key, value in selectors.items():
        if not _is_known(key, known):
            choice = ", ".join(f"{name}<name>" if name.endswith(":") else name for name in known)
            raise ValueError(f"selector {_shown(key)} is not known for the platform {platform}: use one of {choice}")
        _check_value(key, value)
    if _SERVICE_ACCOUNT in selectors and _NAMESPACE not in selectors:
        raise ValueError(f"selector {_SERVICE_ACCOUNT} needs {_NAMESPACE}: each namespace has accounts of its own")


def _is_known(key: str, known: tuple[str, ...]) -> bool:
    if key in known:
        return not key.endswith(":")
    family = next((name for name in known if name.endswith(":") and key.startswith(name)), None)
    name = "" if family is None else key[len(family) :]
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _check_value(key: str, value: str) -> None:
    if key in (_NAMESPACE, _SERVICE_ACCOUNT):
        _segment(f"selector {key}", value)
    if not value or len(value) > _LONGEST_VALUE:
        raise ValueError(f"selector {key} must have a value of 1 to {_LONGEST_VALUE} characters")
    if not value.isascii() or not is_plain(value) or value != value.strip():
        raise ValueError(f"selector {key} must be visible ASCII without spaces around it")
    if "*" in value or "?" in value:
        raise ValueError(f"selector {key} is compared exactly: it cannot have wildcards")


def _segment(name: str, value: str) -> str:
    if not _SEGMENT.fullmatch(value) or value in (".", ".."):
        raise ValueError(f"{name} must consist of a-z, A-Z, 0-9, '.', '_' and '-', and not be '.' or '..'")
    return value


def _shown(key: str) -> str:
    return ascii(key if len(key) <= 64 else key[:64] + "...")
