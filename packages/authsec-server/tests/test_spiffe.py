"""SPIFFE IDs and selectors: nothing that anybody entered changes the shape of an identity."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.agents.spiffe import PLATFORMS, check_selectors, spiffe_id

pytestmark = pytest.mark.req("RA4")

TENANT = "4b9a8f0e-8a35-4a8e-9f53-0f1d1a4f7a11"
CLIENT = "0d3c2c39-0f35-4fa0-9bb0-2a1a4c3c9d10"

HOSTILE = [
    "",
    ".",
    "..",
    "../sa/admin",
    "a/b",
    "/",
    "a\\b",
    "a%2fb",
    "a%2Fb",
    "%2e%2e",
    "a\r\nX-Admin: yes",
    "a\n",
    "\na",
    "a\x00b",
    "a\x1b[31m",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a?b",
    "a#b",
    "a:b",
    "a@b",
    "a*",
    "*",
    "a,b",
    'a"b',
    "{a}",
    "a+b",
    "a~b",
    "\u0430dmin",  # Cyrillic a
    "admin\u2215x",  # division slash
    "admin\u2044x",  # fraction slash
    "\uff41dmin",  # full-width a
    "\uff0e\uff0e",  # full-width dots
    "a\u200bb",  # zero-width space
    "a\u202eb",  # right-to-left override
    "\u0661",  # an Arabic digit, which \d would take
    "é",
    "a\u2028b",
    "\ud800",
]


def identity(
    trust_domain: str = "example.org",
    tenant_id: str = TENANT,
    agent_type: str = "mcp-agent",
    client_id: str = CLIENT,
    **selectors: str,
) -> str:
    """A SPIFFE ID; `ns` and `sa` are the Kubernetes selectors."""
    named = {f"k8s:{name}": value for name, value in selectors.items()}
    return spiffe_id(trust_domain, tenant_id, agent_type, client_id, named)


# The identity


def test_a_service_account_is_the_customary_identity() -> None:
    """Namespace and service account name the workload as SPIRE and Istio do."""
    assert identity(ns="production", sa="support-sa") == "spiffe://example.org/ns/production/sa/support-sa"


def test_accounts_of_two_clusters_are_two_identities() -> None:
    """An agent that names its cluster is not who has the same account in another one."""
    found = identity(cluster="staging", ns="production", sa="support-sa")
    assert found == "spiffe://example.org/cluster/staging/ns/production/sa/support-sa"


@pytest.mark.parametrize("selectors", [{}, {"ns": "production"}, {"sa": "support-sa"}, {"container-name": "agent"}])
def test_without_both_selectors_the_client_itself_is_the_identity(selectors: dict[str, str]) -> None:
    """Half of a service account names nobody."""
    assert identity(**selectors) == f"spiffe://example.org/tenants/{TENANT}/agents/mcp-agent/{CLIENT}"


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["ns", "sa", "tenant_id", "agent_type", "client_id"])
def test_a_segment_is_a_name_or_there_is_no_identity(name: str, hostile: str) -> None:
    """Nothing is escaped, trimmed or folded: a segment that is not a plain name is refused, and named."""
    others = {"ns": {"sa": "x"}, "sa": {"ns": "x"}}.get(name, {})
    label = f"selector k8s:{name}" if others else name
    with pytest.raises(ValueError, match=rf"^{label} must consist of") as refused:
        identity(**{**others, name: hostile})
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("hostile", [*(name for name in HOSTILE if name not in (".", "..")), "Example.org", "a" * 256])
def test_a_trust_domain_is_lower_case_and_bounded(hostile: str) -> None:
    """SPIFFE-ID section 2.1: no upper case, no port, no user, at most 255 bytes."""
    with pytest.raises(ValueError, match="trust domain"):
        identity(hostile)


def test_the_longest_names_that_fit_are_taken() -> None:
    """A trust domain of 255 bytes and an ID of 2048; one more is too long, and the text says which parts to shorten."""
    assert identity("a" * 255).startswith("spiffe://" + "a" * 255)
    room = 2048 - len("spiffe://example.org/ns/n/sa/")
    assert len(identity(ns="n", sa="s" * room)) == 2048
    with pytest.raises(ValueError, match=r"selectors k8s:ns and k8s:sa: .* 2048 bytes"):
        identity(ns="n", sa="s" * (room + 1))
    with pytest.raises(ValueError, match=r"tenant_id, agent_type and client_id: .* 2048 bytes"):
        identity(client_id="c" * 2048)


names = st.text("abcXYZ019._-", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))


@given(st.text(max_size=8) | names, st.text(max_size=8) | names)
def test_an_identity_has_exactly_the_segments_that_it_was_made_of(namespace: str, account: str) -> None:
    """Whatever was entered: an ID that is well-formed and gives its parts back, or none."""
    try:
        made = identity(ns=namespace, sa=account)
    except ValueError:
        return
    assert re.fullmatch(r"spiffe://example\.org/ns/[a-zA-Z0-9._-]+/sa/[a-zA-Z0-9._-]+", made)
    assert made.split("/")[3:] == ["ns", namespace, "sa", account]


@given(names, names)
def test_plain_names_always_have_an_identity(namespace: str, account: str) -> None:
    """The check refuses nothing that SPIFFE allows."""
    assert identity(ns=namespace, sa=account).endswith(f"/ns/{namespace}/sa/{account}")


# Selectors


@pytest.mark.parametrize(
    ("platform", "selectors"),
    [
        (
            "kubernetes",
            {
                "k8s:ns": "production",
                "k8s:sa": "customer-support-sa",
                "k8s:pod-label:app": "customer-support",
                "k8s:pod-label:app.kubernetes.io/name": "support",
                "k8s:container-name": "agent",
            },
        ),
        ("kubernetes", {}),
        ("kubernetes", {"k8s:ns": "production"}),
        ("docker", {"docker:label:com.example.team": "the support team", "docker:image_id": "77af4d6b9913"}),
        ("aws", {"aws_iid:iamrole": "arn:aws:iam::123456789012:role/Agent", "unix:user": "agent"}),
        ("gcp", {"gcp_iit:sa": "123456789-compute@developer.gserviceaccount.com"}),
        ("azure", {"azure_imds:vm-name": "blog"}),
        ("vm", {"unix:path": "/usr/bin/agent", "unix:uid": "1000"}),
        ("other", {"docker:env:ROLE": "support"}),
    ],
)
def test_selectors_that_a_platform_knows_are_taken(platform: str, selectors: dict[str, str]) -> None:
    """The names are those that SPIRE's attestors use."""
    check_selectors(platform, selectors)


@pytest.mark.parametrize("platform", ["", "Kubernetes", "k8s", "kubernetes ", *HOSTILE])
def test_an_unknown_platform_is_refused(platform: str) -> None:
    """The text lists those that there are and does not repeat what was entered."""
    with pytest.raises(ValueError, match="platform must be one of kubernetes, docker, aws, gcp, azure, vm, other"):
        check_selectors(platform, {})


@pytest.mark.parametrize(
    "key",
    [
        "k8s:pod-label",
        "k8s:pod-label:",
        "k8s:pod-label:a b",
        "k8s:pod-label:a\n",
        "k8s:pod-label:\u0430",
        "k8s:pod-label:a:b",
        "k8s:pod-label:" + "a" * 318,
        "k8s:pod-labels:app",
        "k8s:namespace",
        "k8s:ns ",
        "K8S:NS",
        "k8s:ns:x",
        "k8s:",
        ":",
        "docker:image_id",
        "x" * 100_000,
        *HOSTILE,
    ],
)
def test_a_selector_that_a_platform_does_not_know_is_refused(key: str) -> None:
    """A typo would match nothing; the text names the selector in one bounded, printable line, and the choice."""
    with pytest.raises(
        ValueError, match=r"^selector '.*is not known for the platform kubernetes: use one of"
    ) as refused:
        check_selectors("kubernetes", {key: "x"})
    text = str(refused.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 800
    assert "k8s:pod-label:<name>" in text


@pytest.mark.parametrize("platform", [name for name in PLATFORMS if name != "kubernetes"])
def test_only_kubernetes_names_service_accounts(platform: str) -> None:
    """On another platform these selectors would give an agent the identity of a Kubernetes workload."""
    for key in ("k8s:ns", "k8s:sa"):
        with pytest.raises(ValueError, match=f"^selector '{key}' is not known"):
            check_selectors(platform, {key: "x"})


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_any_issuers_tokens_prove_is_known_everywhere(platform: str) -> None:
    """A SPIFFE ID and the claims of an OIDC issuer; which cluster it is only on Kubernetes."""
    check_selectors(
        platform, {"spiffe:id": "spiffe://example.org/a", "oidc:iss": "https://ci.example", "oidc:a/b": "c"}
    )
    for key in ("oidc:", "oidc:a b", "spiffe:", "spiffe:id:a", *(() if platform == "kubernetes" else ("k8s:cluster",))):
        with pytest.raises(ValueError, match="is not known for the platform"):
            check_selectors(platform, {key: "x"})
    check_selectors("kubernetes", {"k8s:cluster": "production", "k8s:ns": "a", "k8s:sa": "b"})


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("key", ["k8s:ns", "k8s:sa"])
def test_what_becomes_a_part_of_the_identity_is_a_name(key: str, hostile: str) -> None:
    """It is refused when it is entered, and not first when the identity is made."""
    with pytest.raises(ValueError, match=f"^selector {key} must consist of"):
        check_selectors("kubernetes", {"k8s:ns": "x", "k8s:sa": "x", key: hostile})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "must have a value of 1 to 512 characters"),
        ("a" * 513, "must have a value of 1 to 512 characters"),
        ("a\r\nb", "must be visible ASCII"),
        ("a\x1b[31m", "must be visible ASCII"),
        ("a\x7f", "must be visible ASCII"),
        ("\u0430dmin", "must be visible ASCII"),
        ("a\u202eb", "must be visible ASCII"),
        (" a", "must be visible ASCII without spaces around it"),
        ("a ", "must be visible ASCII without spaces around it"),
        ("*", "cannot have wildcards"),
        ("supp?rt", "cannot have wildcards"),
    ],
)
def test_a_value_is_plain_bounded_and_exact(value: str, problem: str) -> None:
    """The text names the selector and quotes nothing of the value."""
    with pytest.raises(ValueError, match=r"^selector k8s:pod-label:app ") as refused:
        check_selectors("kubernetes", {"k8s:pod-label:app": value})
    assert problem in str(refused.value)
    assert str(refused.value).isprintable()


def test_the_longest_names_and_values_are_taken_and_their_number_is_bounded() -> None:
    """A label's name has up to 317 characters, a value 512, and an agent 32 selectors."""
    check_selectors("kubernetes", {"k8s:pod-label:" + "a" * 317: "v" * 512})
    many = {f"k8s:pod-label:l{number}": "x" for number in range(33)}
    with pytest.raises(ValueError, match="at most 32 selectors"):
        check_selectors("kubernetes", many)
    many.popitem()
    check_selectors("kubernetes", many)


def test_a_service_account_without_its_namespace_is_refused() -> None:
    """Each namespace has a `default`: the name alone says nothing."""
    with pytest.raises(ValueError, match=r"^selector k8s:sa needs k8s:ns"):
        check_selectors("kubernetes", {"k8s:sa": "default"})


@given(st.sampled_from(sorted(PLATFORMS)), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_selectors_that_pass_always_give_an_identity(platform: str, selectors: dict[str, str]) -> None:
    """What was taken when it was entered never fails later."""
    try:
        check_selectors(platform, selectors)
    except ValueError as refused:
        assert str(refused).isprintable()  # noqa: PT017 -- whether it is refused depends on what was drawn
    else:
        assert spiffe_id("example.org", TENANT, "mcp-agent", CLIENT, selectors)


@given(st.fixed_dictionaries({"k8s:ns": st.text(max_size=4) | names, "k8s:sa": st.text(max_size=4) | names}))
def test_a_service_account_that_passes_gives_an_identity_and_one_that_does_not_gives_none(
    selectors: dict[str, str],
) -> None:
    """The two checks agree."""
    refused = []
    for check in (
        lambda: check_selectors("kubernetes", selectors),
        lambda: spiffe_id("example.org", TENANT, "mcp-agent", CLIENT, selectors),
    ):
        try:
            check()
        except ValueError as error:
            refused.append(error)
    assert len(refused) in (0, 2)
