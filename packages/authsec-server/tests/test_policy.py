"""The policy: what is granted, against an oracle that counts scope by scope, and why something is not."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authsec_server.agents.standing import ClientState, Delegation, Standing
from authsec_server.tokens.policy import Ask, Caps, Check, Grant, Refusal, decide, explain

pytestmark = pytest.mark.req("RA3")

NOW = 1_800_000_000.0
CAPS = Caps(default_audience="authsec-api", default_ttl=600, max_ttl=3600)
SCOPES = ("read:metrics", "read:records", "write:records", "read")
AUDIENCES = ("authsec-api", "billing-api")


def delegation(delegation_id: str = "d1", **changes: Any) -> Delegation:
    """A delegation in force that gives `read:metrics` and `read:records` for up to 900 s."""
    facts: dict[str, Any] = {
        "role": "reader",
        "target_type": "mcp-agent",
        "permissions": frozenset({"read:metrics", "read:records"}),
        "allowed_actions": None,
        "audiences": frozenset({"authsec-api"}),
        "max_duration": 900,
        "enabled": True,
        "not_after": None,
        "revoked": False,
    }
    return Delegation(delegation_id=delegation_id, **{**facts, **changes})


def standing(*delegations: Delegation, state: ClientState = "active") -> Standing:
    """A client with these delegations."""
    return Standing(
        selectors={},
        client_id="c1",
        name="support",
        agent_type="mcp-agent",
        platform="other",
        spiffe_id="spiffe://example.org/tenants/t1/agents/mcp-agent/c1",
        state=state,
        keys=(),
        delegations=delegations,
    )


def ask(*scopes: str, audience: str | None = None, ttl: int | None = None) -> Ask:
    """Ask for these scopes, or for all."""
    return Ask(scopes=frozenset(scopes) or None, audience=audience, ttl=ttl)


def granted(*delegations: Delegation, asked: Ask | None = None, now: float = NOW) -> Grant:
    """Decide, and expect a grant."""
    verdict = decide(standing(*delegations), asked or Ask(), CAPS, now)
    assert isinstance(verdict, Grant)
    return verdict


def refused(*delegations: Delegation, asked: Ask | None = None, now: float = NOW) -> Refusal:
    """Decide, and expect a refusal."""
    verdict = decide(standing(*delegations), asked or Ask(), CAPS, now)
    assert isinstance(verdict, Refusal)
    return verdict


ENDED = delegation("ended", not_after=NOW)
REVOKED = delegation("revoked", revoked=True)
DISABLED = delegation("disabled", enabled=False)
ELSEWHERE = delegation("elsewhere", audiences=frozenset({"billing-api"}))
EMPTY = delegation("empty", allowed_actions=frozenset())


# What is granted


def test_a_grant_names_all_that_a_token_says() -> None:
    """Scopes, audience, lifetime, the delegations that contribute and their roles, each once and sorted."""
    given = granted(
        delegation("d3", role="writer", permissions=frozenset({"write:records"}), max_duration=300),
        ELSEWHERE,
        delegation("d1"),
        delegation("d2"),
    )
    assert given == Grant(
        scopes=frozenset({"read:metrics", "read:records", "write:records"}),
        audience="authsec-api",
        ttl=300,
        delegations=("d3", "d1", "d2"),
        delegated_by="reader,writer",
    )


def test_only_delegations_that_give_something_of_what_was_asked_count() -> None:
    """A delegation without any of the scopes asked for neither shortens the token nor is named in it."""
    short = delegation("short", role="writer", permissions=frozenset({"write:records"}), max_duration=1)
    given = granted(delegation(), short, asked=ask("read:metrics"))
    assert (given.scopes, given.ttl, given.delegations) == (frozenset({"read:metrics"}), 600, ("d1",))
    assert given.delegated_by == "reader"


def test_what_is_asked_for_and_not_delegated_is_left_out() -> None:
    """A part of what was asked is a narrower grant; scopes are exact, `read` is not `read:metrics`."""
    assert granted(delegation(), asked=ask("read:metrics", "write:records")).scopes == {"read:metrics"}
    assert refused(delegation(), asked=ask("read", "READ:METRICS", "read:*")).code == "not_covered"


def test_allowed_actions_are_those_that_the_role_still_has() -> None:
    """A permission that the role lost is no longer given, although the delegation lists it."""
    listed = delegation(allowed_actions=frozenset({"read:metrics", "write:records"}))
    assert granted(listed).scopes == {"read:metrics"}


def test_an_audience_that_was_asked_for_replaces_the_default() -> None:
    """A delegation gives for its own audiences only, and a blank audience is none of them."""
    both = (delegation(), ELSEWHERE)
    assert granted(*both).delegations == ("d1",)
    elsewhere = granted(*both, asked=ask(audience="billing-api"))
    assert (elsewhere.audience, elsewhere.delegations) == ("billing-api", ("elsewhere",))
    for audience in ("", "billing", "BILLING-API", "billing-api "):
        assert refused(*both, asked=ask(audience=audience)).code == "audience_not_covered"


@pytest.mark.parametrize(
    ("asked", "default", "highest", "duration", "left", "ttl"),
    [
        (None, 600, 3600, 900, None, 600),
        (100, 600, 3600, 900, None, 100),
        (9999, 600, 3600, 9000, None, 3600),
        (9999, 600, 3600, 900, None, 900),
        (None, 9999, 3600, 9000, None, 3600),
        (None, 600, 3600, 900, 20.9, 20),
        (None, 600, 3600, 10, 20.9, 10),
        (1, 600, 3600, 900, 20.0, 1),
        (None, 600, 3600, 900, 1e18, 600),
    ],
)
def test_the_lifetime_is_the_smallest_of_all_caps(
    asked: int | None, default: int, highest: int, duration: int, left: float | None, ttl: int
) -> None:
    """Asked for or the default, the authority's highest, the delegation's longest, and what is left of it."""
    caps = Caps(default_audience="authsec-api", default_ttl=default, max_ttl=highest)
    one = delegation(max_duration=duration, not_after=None if left is None else NOW + left)
    verdict = decide(standing(one), Ask(ttl=asked), caps, NOW)
    assert isinstance(verdict, Grant)
    assert verdict.ttl == ttl


@pytest.mark.parametrize(("left", "ttl"), [(-1.0, None), (0.0, None), (0.999, None), (1.0, 1), (1.999, 1), (2.0, 2)])
def test_a_delegation_ends_when_less_than_a_second_is_left(left: float, ttl: int | None) -> None:
    """A token has whole seconds and may not outlive the delegation; the last one of less than a second is none."""
    one = delegation(not_after=NOW + left)
    if ttl is None:
        assert refused(one).code == "delegation_ended"
    else:
        assert granted(one).ttl == ttl


# What is refused


@pytest.mark.parametrize(("state", "code"), [("disabled", "client_disabled"), ("revoked", "client_revoked")])
def test_a_client_that_is_not_active_gets_nothing(state: ClientState, code: str) -> None:
    """Whatever is delegated to it."""
    verdict = decide(standing(delegation(), state=state), Ask(), CAPS, NOW)
    assert isinstance(verdict, Refusal)
    assert verdict.code == code


def test_a_state_that_nobody_knows_is_not_active() -> None:
    """Default deny: a state that a newer version wrote lets nobody in."""
    unknown: Any = "suspended"
    assert isinstance(decide(standing(delegation(), state=unknown), Ask(), CAPS, NOW), Refusal)


@pytest.mark.parametrize(
    ("delegations", "code"),
    [
        ((), "no_delegation"),
        ((DISABLED,), "no_delegation"),
        ((ENDED,), "delegation_ended"),
        ((REVOKED,), "delegation_ended"),
        ((DISABLED, ENDED), "delegation_ended"),
        ((DISABLED, REVOKED), "delegation_ended"),
        ((delegation(enabled=False, revoked=True),), "delegation_ended"),
        ((ELSEWHERE,), "audience_not_covered"),
        ((EMPTY,), "not_covered"),
        ((delegation(permissions=frozenset()),), "not_covered"),
        ((delegation(allowed_actions=frozenset({"write:records"})),), "not_covered"),
        ((ENDED, DISABLED, ELSEWHERE), "audience_not_covered"),
    ],
)
def test_the_code_says_whether_there_is_nothing_no_more_or_not_this(
    delegations: tuple[Delegation, ...], code: str
) -> None:
    """No delegation (or all disabled), all others ended, or one in force that does not cover it."""
    assert refused(*delegations).code == code


def test_nothing_asked_for_is_nothing() -> None:
    """An empty set of scopes is not the whole delegation."""
    refusal = refused(delegation(), asked=Ask(scopes=frozenset()))
    assert (refusal.code, "in an exchange none that the subject token has" in refusal.message) == ("not_covered", True)


@pytest.mark.parametrize("instant", [math.nan, math.inf])
def test_a_clock_that_tells_nothing_ends_every_delegation_that_ends(instant: float) -> None:
    """Default deny: what cannot be compared is over."""
    assert refused(delegation(not_after=NOW), now=instant).code == "delegation_ended"
    assert refused(delegation(not_after=math.nan)).code == "delegation_ended"


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_lifetime_below_a_second_is_not_a_lifetime(seconds: int) -> None:
    """Neither asked for, nor set, nor in a delegation."""
    with pytest.raises(ValueError, match="ttl must be at least 1"):
        Ask(ttl=seconds)
    with pytest.raises(ValueError, match="at least 1 second"):
        Caps(default_audience="a", default_ttl=seconds, max_ttl=1)
    with pytest.raises(ValueError, match="at least 1 second"):
        Caps(default_audience="a", default_ttl=1, max_ttl=seconds)
    assert refused(delegation(max_duration=seconds)).code == "delegation_ended"


@pytest.mark.parametrize(
    ("delegations", "words"),
    [
        ((), "ask an operator for a trust delegation"),
        ((REVOKED,), "ask an operator for a new"),
        ((ELSEWHERE,), "ask for another audience"),
        ((ELSEWHERE, EMPTY), "look at the delegation and its role"),
        ((ELSEWHERE, EMPTY, delegation()), "Ask for others"),
    ],
)
def test_a_refusal_says_what_to_do_next_and_discloses_nothing(delegations: tuple[Delegation, ...], words: str) -> None:
    """The agent learns nothing about roles, delegations, permissions or other audiences, its own default included."""
    message = refused(*delegations, asked=ask("delete:all")).message
    assert words in message
    for name in ("reader", "d1", "elsewhere", "read:metrics", "billing", "c1", CAPS.default_audience):
        assert name not in message


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (ask("b", "a"), "for the default audience: a, b. Ask for others"),
        (ask("a", audience="authsec-api"), "for the audience 'authsec-api': a. Ask for others"),
        (ask(audience="pay\nroll"), r"for the audience 'pay\nroll': ask for another audience"),
    ],
)
def test_a_refusal_names_what_is_not_covered(asked: Ask, words: str) -> None:
    """The scopes or the audience, as they were asked for, on one line."""
    assert refused(delegation(), asked=asked).message.endswith(words)


# Why


def explained(*delegations: Delegation, asked: Ask | None = None) -> list[tuple[str | None, set[str], str]]:
    """The failed check, what is missing, and the words, for each delegation."""
    lines = explain(standing(*delegations), asked or Ask(), CAPS, NOW).lines
    return [(line.failed, set(line.missing), line.message) for line in lines]


@pytest.mark.parametrize(
    ("one", "failed", "missing", "message"),
    [
        (REVOKED, "revoked", set(), "revoked: make a new delegation"),
        (ENDED, "expired", set(), "expired: move its end, or make a new delegation"),
        (DISABLED, "disabled", set(), "disabled: enable it"),
        (ELSEWHERE, "audience", {"authsec-api"}, "not for the audience authsec-api, only for billing-api"),
        (
            delegation(audiences=frozenset()),
            "audience",
            {"authsec-api"},
            "not for the audience authsec-api, only for none",
        ),
        (EMPTY, "actions", set(), "its list of allowed actions is empty, which allows nothing: list some"),
        (
            delegation(permissions=frozenset(), allowed_actions=frozenset({"read"})),
            "actions",
            {"read"},
            "the role reader has no permissions: add some",
        ),
        (
            delegation(allowed_actions=frozenset({"write:a", "write:b"})),
            "actions",
            {"write:a", "write:b"},
            "the role reader has none of the allowed actions any more: write:a, write:b",
        ),
    ],
)
def test_an_explanation_names_the_first_check_that_failed(
    one: Delegation, failed: Check, missing: set[str], message: str
) -> None:
    """A code for programs, what is missing, and words for people with what to do."""
    assert explained(one) == [(failed, missing, message)]


def test_an_explanation_says_where_a_scope_would_have_to_be_added() -> None:
    """To the role, or to the allowed actions of the delegation; also of a delegation that gives a part."""
    one = delegation(allowed_actions=frozenset({"read:metrics"}))
    absent = "not in the role reader: write:records; in the role but not among the allowed actions: read:records"
    assert explained(one, asked=ask("read:records", "write:records")) == [
        ("scopes", {"read:records", "write:records"}, f"gives none of the scopes asked for; {absent}")
    ]
    assert explained(one, asked=ask("read:metrics", "read:records", "write:records")) == [
        (None, {"read:records", "write:records"}, f"gives read:metrics for up to 900 s; {absent}")
    ]
    assert explained(one) == [(None, set(), "gives read:metrics for up to 900 s")]


@pytest.mark.parametrize(
    ("facts", "failed"),
    [
        ({"revoked": True, "not_after": NOW, "enabled": False}, "revoked"),
        ({"not_after": NOW, "enabled": False, "audiences": frozenset()}, "expired"),
        ({"enabled": False, "audiences": frozenset()}, "disabled"),
        ({"audiences": frozenset(), "permissions": frozenset()}, "audience"),
    ],
)
def test_what_cannot_be_mended_is_named_before_what_can(facts: dict[str, Any], failed: Check) -> None:
    """Nobody enables a delegation only to learn that it was revoked."""
    assert [check for check, _, _ in explained(delegation(**facts))] == [failed]


def test_an_explanation_shows_the_whole_decision() -> None:
    """The verdict, the audience that was meant, what is missing in all, and how long each delegation would allow."""
    whole = explain(
        standing(delegation(), delegation("d2", not_after=NOW + 30.5), REVOKED),
        ask("read:metrics", "write:records"),
        CAPS,
        NOW,
    )
    assert isinstance(whole.verdict, Grant)
    assert (whole.verdict.ttl, whole.audience, set(whole.missing)) == (30, "authsec-api", {"write:records"})
    assert [(line.delegation_id, line.role, line.ttl, set(line.scopes)) for line in whole.lines] == [
        ("d1", "reader", 900, {"read:metrics"}),
        ("d2", "reader", 30, {"read:metrics"}),
        ("revoked", "reader", 0, set()),
    ]


def test_the_delegations_of_a_disabled_client_are_explained_too() -> None:
    """An operator sees what enabling it would bring."""
    whole = explain(standing(delegation(), state="disabled"), ask("read:metrics"), CAPS, NOW)
    assert isinstance(whole.verdict, Refusal)
    assert (whole.verdict.code, set(whole.missing)) == ("client_disabled", {"read:metrics"})
    assert [line.failed for line in whole.lines] == [None]


def test_a_sentence_lists_a_few_names_only() -> None:
    """A role with thousands of permissions still fits a table."""
    many = frozenset(f"read:{number:02}" for number in range(10))
    [(_, _, message)] = explained(delegation(permissions=many))
    assert message == f"gives {', '.join(sorted(many)[:8])} and 2 more for up to 900 s"
    [(_, _, message)] = explained(delegation(permissions=frozenset(sorted(many)[:8])))
    assert "more" not in message


def test_no_value_can_be_changed() -> None:
    """A decision that was made stays what it was."""
    for value in (Ask(), CAPS, granted(delegation()), refused(), explain(standing(), Ask(), CAPS, NOW)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


# Against an oracle


def mostly(value: bool) -> st.SearchStrategy[bool]:
    """Draw values of which enough let a decision come to its later checks."""
    return st.sampled_from([value] * 5 + [not value])


scope_sets = st.frozensets(st.sampled_from(SCOPES))
audience_sets = st.frozensets(st.sampled_from(AUDIENCES))
quarters = st.integers(-8, 40).map(lambda quarter: NOW + quarter / 4)
delegation_facts = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["reader", "writer"]),
        "permissions": scope_sets,
        "allowed_actions": st.none() | scope_sets,
        "audiences": st.just(frozenset(AUDIENCES)) | audience_sets,
        "max_duration": st.integers(1, 12),
        "enabled": mostly(True),
        "not_after": st.none() | quarters,
        "revoked": mostly(False),
    }
)
standings = st.builds(
    lambda every, state: standing(
        *(delegation(f"d{number}", **facts) for number, facts in enumerate(every)), state=state
    ),
    st.lists(delegation_facts, max_size=4),
    st.sampled_from(["active"] * 8 + ["disabled", "revoked"]),
)
asks = st.builds(
    Ask,
    scopes=st.none() | scope_sets,
    audience=st.none() | st.sampled_from([*AUDIENCES, "unknown-api"]),
    ttl=st.none() | st.integers(1, 12),
)
caps_values = st.builds(
    Caps, default_audience=st.sampled_from(AUDIENCES), default_ttl=st.integers(1, 12), max_ttl=st.integers(1, 12)
)


def oracle(who: Standing, asked: Ask, caps: Caps) -> tuple[set[str], set[int], set[str]]:
    """Return scopes, all caps of the lifetime and the delegations: of each scope it asks which delegations give it."""
    audience = asked.audience if asked.audience is not None else caps.default_audience
    triples = [
        (scope, one)
        for one in who.delegations
        for scope in SCOPES
        if who.state == "active"
        and one.enabled
        and not one.revoked
        and (one.not_after is None or one.not_after >= NOW + 1)
        and audience in one.audiences
        and scope in one.permissions
        and (one.allowed_actions is None or scope in one.allowed_actions)
        and (asked.scopes is None or scope in asked.scopes)
    ]
    seconds = {caps.max_ttl, asked.ttl if asked.ttl is not None else caps.default_ttl}
    for _, one in triples:
        seconds.add(one.max_duration)
        if one.not_after is not None:
            seconds.add(math.floor(one.not_after - NOW))
    return {scope for scope, _ in triples}, seconds, {one.delegation_id for _, one in triples}


@settings(max_examples=1000)
@given(standings, asks, caps_values)
def test_a_grant_is_what_the_oracle_counts(who: Standing, asked: Ask, caps: Caps) -> None:
    """Issued = asked ∩ delegated ∩ role in force; ttl = the smallest cap; nothing counted is a refusal."""
    verdict = decide(who, asked, caps, NOW)
    scopes, seconds, delegations = oracle(who, asked, caps)
    if isinstance(verdict, Refusal):
        assert not scopes
    else:
        assert (set(verdict.scopes), verdict.ttl, set(verdict.delegations)) == (scopes, min(seconds), delegations)
        assert verdict.ttl >= 1
        assert len(verdict.delegations) == len(delegations)
        assert verdict.audience == (asked.audience or caps.default_audience)
        assert verdict.delegated_by.split(",") == sorted(
            {one.role for one in who.delegations if one.delegation_id in delegations}
        )


@given(standings, asks, caps_values)
def test_an_explanation_is_the_decision(who: Standing, asked: Ask, caps: Caps) -> None:
    """The dry run and the issue cannot disagree, and the lines that did not fail are those that contribute."""
    whole = explain(who, asked, caps, NOW)
    assert whole.verdict == decide(who, asked, caps, NOW)
    assert [line.delegation_id for line in whole.lines] == [one.delegation_id for one in who.delegations]
    if isinstance(whole.verdict, Grant):
        giving = [line for line in whole.lines if line.failed is None]
        assert tuple(line.delegation_id for line in giving) == whole.verdict.delegations
        assert frozenset().union(*(line.scopes for line in giving)) == whole.verdict.scopes
        assert whole.verdict.ttl <= min(line.ttl for line in giving)
    for line in whole.lines:
        assert (line.failed is None) == bool(line.scopes)
        assert asked.scopes is None or line.scopes <= asked.scopes
        assert line.message


TAKEN_AWAY: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"revoked": True},
        {"enabled": False},
        {"not_after": NOW},
        {"allowed_actions": frozenset()},
        {"audiences": frozenset()},
        {"permissions": frozenset()},
    ]
)


@given(st.data(), standings, asks, caps_values)
def test_taking_a_delegation_away_never_enlarges_a_grant(
    data: st.DataObject, who: Standing, asked: Ask, caps: Caps
) -> None:
    """By whichever way it ends: no scope comes up, and what is left is what the others give without it."""
    assume(who.delegations)
    gone = data.draw(st.integers(0, len(who.delegations) - 1))
    others = (*who.delegations[:gone], *who.delegations[gone + 1 :])
    ended = dataclasses.replace(who.delegations[gone], **data.draw(TAKEN_AWAY))
    before = decide(who, asked, caps, NOW)
    after = decide(dataclasses.replace(who, delegations=(*others, ended)), asked, caps, NOW)
    without = decide(dataclasses.replace(who, delegations=others), asked, caps, NOW)
    assert isinstance(after, Refusal) == isinstance(without, Refusal)
    if isinstance(after, Grant):
        assert after == without
        assert isinstance(before, Grant)
        assert after.scopes <= before.scopes
        assert set(after.delegations) <= set(before.delegations)


@given(standings, asks, caps_values, st.sampled_from(["disabled", "revoked"]))
def test_ending_a_client_ends_every_grant(who: Standing, asked: Ask, caps: Caps, state: ClientState) -> None:
    """Nothing that is delegated outlives the client."""
    assert isinstance(decide(dataclasses.replace(who, state=state), asked, caps, NOW), Refusal)


@given(standings, asks, caps_values, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_lower_caps_never_lengthen_and_never_add(
    who: Standing, asked: Ask, caps: Caps, default: int, highest: int, wanted: int
) -> None:
    """Monotone in the settings and in what is asked for: the same scopes, for no longer."""
    lower = Caps(
        default_audience=caps.default_audience,
        default_ttl=max(1, caps.default_ttl - default),
        max_ttl=max(1, caps.max_ttl - highest),
    )
    less = dataclasses.replace(asked, ttl=None if asked.ttl is None else max(1, asked.ttl - wanted))
    before, after = decide(who, asked, caps, NOW), decide(who, less, lower, NOW)
    if isinstance(before, Grant):
        assert isinstance(after, Grant)
        assert after.ttl <= before.ttl
        assert dataclasses.replace(after, ttl=before.ttl) == before
    else:
        assert after == before


@given(st.data(), delegation_facts, asks, caps_values)
def test_less_in_one_delegation_is_never_more_in_its_token(
    data: st.DataObject, facts: dict[str, Any], asked: Ask, caps: Caps
) -> None:
    """Monotone in every fact of a delegation: fewer permissions, actions or audiences, a shorter or an earlier end."""
    one = delegation(**facts)
    fewer = (
        scope_sets
        if one.allowed_actions is None
        else st.frozensets(st.sampled_from(SCOPES)).map(one.allowed_actions.__and__)
    )
    less = dataclasses.replace(
        one,
        permissions=one.permissions & data.draw(scope_sets),
        allowed_actions=data.draw(fewer),
        audiences=one.audiences & data.draw(audience_sets),
        max_duration=data.draw(st.integers(1, one.max_duration)),
        not_after=data.draw(quarters.filter(lambda end: one.not_after is None or end <= one.not_after)),
    )
    after = decide(standing(less), asked, caps, NOW)
    if isinstance(after, Grant):
        before = decide(standing(one), asked, caps, NOW)
        assert isinstance(before, Grant)
        assert after.scopes <= before.scopes
        assert after.ttl <= before.ttl


@given(standings, asks, caps_values, st.integers(0, 60))
def test_time_only_takes_away(who: Standing, asked: Ask, caps: Caps, quarter: int) -> None:
    """As time goes by, no scope comes up, and no token ends later than the last second of what it rests on."""
    later = NOW + quarter / 4
    before, after = decide(who, asked, caps, NOW), decide(who, asked, caps, later)
    if isinstance(after, Grant):
        assert isinstance(before, Grant)
        assert after.scopes <= before.scopes
        for one in who.delegations:
            if one.delegation_id in after.delegations and one.not_after is not None:
                assert later + after.ttl <= one.not_after
