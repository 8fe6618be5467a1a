"""The vault's policy: who is let in, and what they may do there, against an oracle that AND-s the limits."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.vault_scopes import VaultAction, VaultScope
from authsec_server import credentials
from authsec_server.agents.standing import ClientState, Standing, StoredKey, VaultAccess
from authsec_server.credentials import Credential, Pepper, mac
from authsec_server.errors import RefusedError
from authsec_server.vault.policy import (
    TIERS,
    AccessTier,
    Holder,
    Presented,
    VaultToken,
    higher,
    holder_of,
    permit,
    permit_listing,
)

NOW = 1_800_000_000.0
PEPPER = Pepper(bytes(range(32)))
KEY = credentials.generate("agent-key")
TOKEN = credentials.generate("vault-token")
EVERYTHING = VaultAccess(namespaces=("*",), scopes=(VaultScope.parse("secrets:*:*"),))
PATH = "production/openai/api-key"


def key(**changes: Any) -> StoredKey:
    """The row of the agent's key."""
    row = StoredKey(key_id=KEY.id, mac=mac(PEPPER, "agent-key", KEY), not_after=None, revoked=False)
    return dataclasses.replace(row, **changes)


def standing(*, state: ClientState = "active", vault: VaultAccess = EVERYTHING, **key_changes: Any) -> Standing:
    """The agent, with one key."""
    return Standing(
        selectors={},
        client_id="c1",
        name="researcher",
        agent_type="autogen-agent",
        platform="docker",
        spiffe_id="spiffe://example.org/c1",
        state=state,
        keys=(key(**key_changes),),
        delegations=(),
        vault=vault,
    )


def token(*scopes: str, **changes: Any) -> VaultToken:
    """The row of a token that it asked for."""
    row = VaultToken(
        token_id=TOKEN.id,
        mac=mac(PEPPER, "vault-token", TOKEN),
        client_id="c1",
        key_id=KEY.id,
        scopes=tuple(map(VaultScope.parse, scopes or ("secrets:read:*",))),
        tier="standard",
        max_uses=None,
        uses=0,
        addresses=None,
        expires_at=NOW + 60,
        revoked_at=None,
    )
    return dataclasses.replace(row, **changes)


def let_in(
    credential: Credential = TOKEN,
    *,
    by: Standing | None = None,
    row: VaultToken | None = None,
    address: str | None = "192.0.2.7",
) -> Holder:
    """Show a credential."""
    shown = Presented.of(credential, PEPPER, client_id="c1", address=address)
    return holder_of(shown, standing=by or standing(), token=row or token(), at=NOW)


def refusal(*arguments: Any, **more: Any) -> str:
    """Show a credential that is refused; return why."""
    with pytest.raises(RefusedError) as caught:
        let_in(*arguments, **more)
    return caught.value.reason


def test_a_key_acts_for_its_agent() -> None:
    """The agent's own key needs no token, and brings no limits but the agent's."""
    holder = let_in(KEY)
    assert (holder.token, holder.key_id, holder.client.client_id) == (None, KEY.id, "c1")


def test_a_token_rests_on_the_key_that_got_it() -> None:
    """A good token is let in, and names the key beneath."""
    holder = let_in()
    assert holder.token is not None
    assert (holder.token.token_id, holder.key_id) == (TOKEN.id, KEY.id)


@pytest.mark.parametrize(
    "changes",
    [
        {"revoked_at": NOW - 1},
        {"expires_at": NOW},
        {"mac": bytes(32)},
        {"client_id": "c2"},
        {"key_id": "agk_0000000000000000"},
    ],
    ids=str,
)
def test_a_token_that_is_not_good_is_told_nothing(changes: dict[str, Any]) -> None:
    """Revoked, ended, forged, another client's, or without its key: one and the same answer."""
    assert refusal(row=token(**changes)) == "proof_wrong"


def test_a_token_is_good_until_its_end() -> None:
    """A moment before `expires_at` it still works."""
    assert let_in(row=token(expires_at=NOW + 0.001)).token is not None


@pytest.mark.parametrize("credential", [KEY, TOKEN], ids=["key", "token"])
@pytest.mark.parametrize("changes", [{"revoked": True}, {"not_after": NOW}], ids=str)
def test_everything_ends_with_the_key(credential: Credential, changes: dict[str, Any]) -> None:
    """A key that was revoked or has ended lets nobody in, nor do the tokens that it got."""
    assert refusal(credential, by=standing(**changes)) == "proof_wrong"


@pytest.mark.parametrize("credential", [KEY, TOKEN], ids=["key", "token"])
@pytest.mark.parametrize(("state", "reason"), [("disabled", "client_disabled"), ("revoked", "client_revoked")])
def test_everything_ends_with_the_agent(credential: Credential, state: ClientState, reason: str) -> None:
    """An agent that is disabled or revoked is refused, whatever it shows; the audit says why."""
    assert refusal(credential, by=standing(state=state)) == reason


@pytest.mark.parametrize("kind", ["agent-key", "operator-token", "vault-token"])
def test_a_credential_is_good_as_what_it_is(kind: credentials.CredentialKind) -> None:
    """A stranger's credential, or the right secret under an id of another kind, is none."""
    assert refusal(credentials.generate(kind)) == "proof_wrong"
    assert refusal(Credential(f"{credentials.generate(kind).id}", TOKEN.secret)) == "proof_wrong"


def test_nobody_is_let_in_for_a_client_that_does_not_exist() -> None:
    """Without a standing there is nothing to be proven."""
    shown = Presented.of(KEY, PEPPER, client_id=None, address=None)
    with pytest.raises(RefusedError, match="none that is good"):
        holder_of(shown, standing=None, token=None, at=NOW)


@pytest.mark.parametrize(
    ("address", "is_let_in"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("192.0.3.7", False),
        ("2001:db9::1", False),
        ("testclient", False),
        ("", False),
        (None, False),
    ],
)
def test_a_token_can_be_bound_to_addresses(address: str | None, is_let_in: bool) -> None:
    """Only from those networks; an address that is not known is in none."""
    bound = token(addresses=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")))
    if is_let_in:
        assert let_in(row=bound, address=address).token is bound
    else:
        assert refusal(row=bound, address=address) == "address_denied"


def why_not(holder: Holder, action: VaultAction = "read", path: str = PATH, *, tier: AccessTier = "standard") -> str:
    """Ask, and return why not; empty where it is permitted."""
    try:
        permit(holder, action, path, tier=tier)
    except RefusedError as exc:
        return exc.reason
    return ""


ACCESS = st.builds(
    VaultAccess,
    namespaces=st.lists(st.sampled_from(["*", "production", "production/openai", "prod", "staging"])).map(tuple),
    scopes=st.lists(
        st.sampled_from(["secrets:*:*", "secrets:read:production/*", "secrets:write:*", f"secrets:read:{PATH}"])
    ).map(lambda found: tuple(map(VaultScope.parse, found))),
)
SCOPES = st.lists(
    st.sampled_from(["secrets:*:*", "secrets:read:production/openai/*", f"secrets:delete:{PATH}", "secrets:read:a/b"]),
    min_size=1,
)


@pytest.mark.req("RW2")
@given(
    ACCESS,
    st.one_of(st.none(), SCOPES),
    st.sampled_from(["read", "write", "delete"]),
    st.sampled_from([PATH, "production/x", "production-x/openai/api-key", "staging/a", "a/b"]),
    st.sampled_from(TIERS),
    st.sampled_from(TIERS),
)
def test_all_limits_hold_at_once(
    access: VaultAccess,
    scopes: list[str] | None,
    action: VaultAction,
    path: str,
    approved: AccessTier,
    tier: AccessTier,
) -> None:
    """Permitted is what the agent's scopes, its namespaces, the token's scopes and its tier all allow."""
    client = standing(vault=access)
    row = None if scopes is None else token(*scopes, tier=approved)
    holder = Holder(client=client, token=row, key_id=KEY.id)
    covered = (
        any(scope.covers(action, path) for scope in access.scopes)
        and any(name == "*" or path.split("/")[: len(name.split("/"))] == name.split("/") for name in access.namespaces)
        and (row is None or any(scope.covers(action, path) for scope in row.scopes))
    )
    granted = "standard" if row is None else approved
    expected = "" if covered else "scope_denied"
    if covered and TIERS.index(tier) > TIERS.index(granted):
        expected = "approval_required"
    assert why_not(holder, action, path, tier=tier) == expected


@pytest.mark.parametrize(("uses", "reason"), [(0, ""), (2, ""), (3, "token_exhausted"), (4, "token_exhausted")])
def test_a_counted_token_is_good_that_often(uses: int, reason: str) -> None:
    """With all its uses gone a token is refused, whatever it is shown for."""
    holder = let_in(row=token(max_uses=3, uses=uses))
    assert why_not(holder) == reason
    if reason:
        assert why_not(holder, "delete", "elsewhere/x", tier="critical") == reason


def test_an_agent_without_access_may_do_nothing() -> None:
    """The default is no."""
    assert why_not(let_in(KEY, by=standing(vault=VaultAccess()))) == "scope_denied"


def test_of_two_tiers_one_is_stricter() -> None:
    """In the order in which they are declared."""
    assert higher("standard", "sensitive") == higher("sensitive", "standard") == "sensitive"
    assert higher("critical", "sensitive") == "critical"


NAMESPACES = ("", "a", "a/b", "a/b/c", "a-x", "b", "b/a")
PATTERNS = ("*", "a/*", "a/b/*", "a/b", "a-x/k", "b/a/k")


@given(
    scopes=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    allowed=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    places=st.lists(st.sampled_from(("*", "a", "a/b", "a-x", "b")), max_size=2),
    namespace=st.sampled_from(NAMESPACES),
)
def test_a_list_is_refused_only_where_nothing_could_be_on_it(
    scopes: list[str], allowed: list[str], places: list[str], namespace: str
) -> None:
    """Whatever may be read and lies in the namespace, its list is not refused for it."""
    access = VaultAccess(
        namespaces=tuple(places), scopes=tuple(VaultScope.parse(f"secrets:read:{each}") for each in allowed)
    )
    holder = let_in(by=standing(vault=access), row=token(*(f"secrets:read:{each}" for each in scopes)))
    below = [path for path in ("a/b", "a/k", "a/b/k", "a/b/c/k", "a-x/k", "b/k", "b/a/k") if lies_in(path, namespace)]
    if any(holder.covers("read", path) for path in below):
        permit_listing(holder, namespace)
    elif not places:
        with pytest.raises(RefusedError) as caught:
            permit_listing(holder, namespace)
        assert caught.value.reason == "scope_denied"


def lies_in(path: str, namespace: str) -> bool:
    """Return whether a secret lies in a namespace or below it."""
    return not namespace or path.startswith(f"{namespace}/")


@pytest.mark.parametrize(
    ("scope", "namespace"), [("secrets:read:a/*", "b"), ("secrets:read:a/*", "a-x"), ("secrets:write:*", "a")]
)
def test_a_namespace_that_no_scope_reaches_is_refused(scope: str, namespace: str) -> None:
    """Another one, one that only begins alike, or another action."""
    with pytest.raises(RefusedError) as caught:
        permit_listing(let_in(row=token(scope)), namespace)
    assert caught.value.reason == "scope_denied"


def test_a_used_up_token_lists_nothing() -> None:
    """It is told that it is used up, whatever it asks for."""
    with pytest.raises(RefusedError) as caught:
        permit_listing(let_in(row=token("secrets:read:*", max_uses=1, uses=1)), "")
    assert caught.value.reason == "token_exhausted"
