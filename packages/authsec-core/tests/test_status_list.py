from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core._fetching import Get, Steps, Wait
from authsec_core._jwks import GivenKeys, RemoteKeys
from authsec_core._refreshing import Pace
from authsec_core._status_list import StatusLists, StatusReference, parse_status_list
from authsec_core.errors import MalformedTokenError, VerificationUnavailableError
from authsec_core.testing import FakeClock
from authsec_core.testing._signing import SigningKey, first_key, pack_statuses

ISSUER = "https://issuer.example/authsec"
URI = f"{ISSUER}/statuslists/1"
MAX_AGE, COOLDOWN, LEEWAY = 60.0, 5.0, 2.0
PACE = Pace(cooldown=COOLDOWN, patience=20.0)


@pytest.fixture(scope="module")
def key() -> SigningKey:
    """The issuer's key."""
    return first_key()


@pytest.fixture(scope="module")
def stranger() -> SigningKey:
    """Somebody else's key."""
    return SigningKey.generate()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def lists(clock: FakeClock, key: SigningKey) -> StatusLists:
    """The issuer's lists, none of them fetched yet."""
    keys = GivenKeys({"keys": [dict(key.jwk)]})
    return StatusLists(ISSUER, keys, clock=clock, max_age=MAX_AGE, leeway=LEEWAY, pace=PACE)


@pytest.fixture
def signed(clock: FakeClock, key: SigningKey) -> Callable[..., bytes]:
    """A function that signs the list of revoked places as it is now; arguments replace claims and header members."""

    def sign(
        revoked: Iterable[int] = (),
        *,
        by: SigningKey = key,
        header: dict[str, object] | None = None,
        omit: str = "",
        **claims: object,
    ) -> bytes:
        body: dict[str, object] = {
            "iss": ISSUER,
            "sub": URI,
            "iat": int(clock.wall()),
            "status_list": pack_statuses(revoked, 1024),
            **claims,
        }
        body.pop(omit, None)
        return by.sign({"alg": "RS256", "typ": "statuslist+jwt", "kid": by.kid, **(header or {})}, body).encode()

    return sign


class _Done:
    def __init__(self, value: object) -> None:
        self.value = value


def _go(steps: Steps[Any], answer: object = None) -> Get | Wait | _Done:
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as done:
        return _Done(done.value)


def _at(index: int, uri: str = URI) -> StatusReference:
    return StatusReference(uri=uri, index=index)


def _fetch(lists: StatusLists, index: int, reply: bytes | Exception) -> object:
    steps = lists.obtain(_at(index))
    assert isinstance(_go(steps), Get)
    done = _go(steps, reply)
    assert isinstance(done, _Done)
    return done.value


def _without_fetching(lists: StatusLists, index: int) -> object:
    done = _go(lists.obtain(_at(index)))
    assert isinstance(done, _Done), "it wanted to fetch or to wait"
    return done.value


def _down() -> VerificationUnavailableError:
    return VerificationUnavailableError("the issuer's status list cannot be fetched (timeout)")


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims(bits: object, packed: object, **more: object) -> dict[str, Any]:
    return {"sub": URI, "iat": 1, "status_list": {"bits": bits, "lst": packed}, **more}


# --- what a list says ---


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    ("bits", "packed", "statuses"),
    [
        (1, "eNrbuRgAAhcBXQ", [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]),
        (2, "eNo76fITAAPfAgc", [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]),
    ],
)
def test_the_examples_of_the_specification(bits: int, packed: str, statuses: list[int]) -> None:
    """The lists that the specification prints are read as it says, least significant bit first."""
    listed = parse_status_list(_claims(bits, packed), uri=URI, issuer=ISSUER)
    assert [listed.status(index) for index in range(len(statuses))] == statuses
    assert listed.status(len(statuses)) is None
    assert listed.status(10**30) is None


@given(st.sampled_from([1, 2, 4, 8]), st.binary(min_size=1, max_size=40))
def test_every_place_is_the_shifted_part_of_its_byte(bits: int, data: bytes) -> None:
    """For each width of status, the places run through each byte from its low end (an oracle by strings of bits)."""
    listed = parse_status_list(_claims(bits, _packed(zlib.compress(data))), uri=URI, issuer=ISSUER)
    text = "".join(f"{byte:08b}"[::-1] for byte in data)
    expected = [int(text[start : start + bits][::-1], 2) for start in range(0, len(text), bits)]
    assert [listed.status(index) for index in range(len(expected))] == expected
    assert listed.status(len(expected)) is None


GOOD = _packed(zlib.compress(bytes(16)))


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    "claims",
    [
        _claims(3, GOOD),
        _claims(0, GOOD),
        _claims(16, GOOD),
        _claims(True, GOOD),
        _claims(1.0, GOOD),
        _claims("1", GOOD),
        _claims(None, GOOD),
        _claims(1, None),
        _claims(1, ""),
        _claims(1, 7),
        _claims(1, "\u00e9"),
        _claims(1, GOOD + "="),
        _claims(1, GOOD[:-3]),
        _claims(1, _packed(zlib.compress(bytes(16)) + b"more")),
        _claims(1, _packed(zlib.compress(bytes(16))[:-1])),
        _claims(1, _packed(zlib.compress(bytes(16))[2:-4])),
        _claims(1, _packed(bytes(16))),
        {"sub": URI, "iat": 1},
        {"sub": URI, "iat": 1, "status_list": []},
        _claims(1, GOOD, sub=URI + "/2"),
        _claims(1, GOOD, sub=None),
        _claims(1, GOOD, iss="https://other.example"),
        _claims(1, GOOD, iss=None),
        _claims(1, GOOD, iat=None),
        _claims(1, GOOD, iat=-1),
        _claims(1, GOOD, iat=1.5),
        _claims(1, GOOD, iat=True),
        _claims(1, GOOD, exp="soon"),
        _claims(1, GOOD, exp=None),
        _claims(1, GOOD, exp=10**30),
        _claims(1, GOOD, ttl=0),
        _claims(1, GOOD, ttl=-1),
        _claims(1, GOOD, ttl=True),
        _claims(1, GOOD, ttl="60"),
    ],
    ids=lambda claims: str(claims)[-60:],
)
def test_a_list_that_is_odd_in_any_respect_is_refused(claims: dict[str, Any]) -> None:
    """Wrong types, widths, times, names and broken compression: no list, rather than a list that says "valid"."""
    with pytest.raises(MalformedTokenError):
        parse_status_list(claims, uri=URI, issuer=ISSUER)


def test_a_list_need_not_name_its_issuer_again() -> None:
    """`iss` is optional in a list (its key and its `sub` bind it); `ttl` and `exp` are too."""
    listed = parse_status_list(_claims(1, GOOD), uri=URI, issuer=ISSUER)
    assert (listed.issued_at, listed.expires_at, listed.ttl) == (1, None, None)


@pytest.mark.req("RV9")
def test_a_bomb_is_not_blown_up() -> None:
    """Eight MiB are decompressed at most; a list that would be larger is refused without having been made."""
    at_limit, bomb = (_packed(zlib.compress(bytes(size), 9)) for size in (8 * 2**20, 2**28))
    assert parse_status_list(_claims(1, at_limit), uri=URI, issuer=ISSUER).status(0) == 0
    with pytest.raises(MalformedTokenError):
        parse_status_list(_claims(1, bomb), uri=URI, issuer=ISSUER)


# --- where a list may be ---


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    "uri",
    [
        "https://issuer.example/authsec",
        "https://issuer.example/authsec/",
        "https://issuer.example/authsec-evil/1",
        "https://issuer.example/authsecx/1",
        "https://issuer.example/statuslists/1",
        "https://issuer.example/authsec/../evil/1",
        "https://issuer.example/authsec/./1",
        "https://issuer.example/authsec/..",
        "https://issuer.example/authsec//evil.example/1",
        "https://issuer.example/authsec/a//b",
        "https://issuer.example/authsec/%2e%2e/1",
        "https://issuer.example/authsec/a%2f1",
        "https://issuer.example/authsec/1?x=1",
        "https://issuer.example/authsec/1#x",
        "https://issuer.example/authsec/1;x",
        "https://issuer.example/authsec\\1",
        "https://issuer.example/authsec/1\\2",
        "https://issuer.example/authsec/1\n",
        "https://issuer.example/authsec/1 ",
        "https://issuer.example/authsec/\u2025/1",
        "https://issuer.example/authsec/\uff0e\uff0e/1",
        "https://issuer.example@evil.example/authsec/1",
        "https://issuer.example.evil.example/authsec/1",
        "https://issuer.example:444/authsec/1",
        "https://ISSUER.example/authsec/1",
        "http://issuer.example/authsec/1",
        "//issuer.example/authsec/1",
        "/authsec/1",
        "file:///authsec/1",
        "http://169.254.169.254/latest/meta-data",
        "",
    ],
)
def test_a_list_outside_the_issuer_is_never_asked_for(lists: StatusLists, uri: str) -> None:
    """Another origin, a neighbouring path, traversal, escapes, queries and look-alikes are refused unasked."""
    with pytest.raises(MalformedTokenError, match="under its issuer"):
        lists.reference({"status_list": {"idx": 0, "uri": uri}})


@pytest.mark.parametrize("tail", ["1", "a/b/c", "statuslists/A-Z_0.9~", "..."])
def test_a_list_below_the_issuer_is_fine(lists: StatusLists, tail: str) -> None:
    """Whole segments of plain characters below the issuer are accepted."""
    assert lists.reference({"status_list": {"idx": 3, "uri": f"{ISSUER}/{tail}"}}) == _at(3, f"{ISSUER}/{tail}")


@pytest.mark.req("RV9")
@pytest.mark.parametrize("issuer", ["accounts.example", "file:///x", "urn:issuer"])
def test_an_issuer_that_is_no_place_has_no_lists(issuer: str, clock: FakeClock, key: SigningKey) -> None:
    """Where the issuer's name is not a URL, no list can lie below it."""
    keys = GivenKeys({"keys": [dict(key.jwk)]})
    lists = StatusLists(issuer, keys, clock=clock, max_age=MAX_AGE, leeway=LEEWAY, pace=PACE)
    with pytest.raises(MalformedTokenError, match="under its issuer"):
        lists.reference({"status_list": {"idx": 0, "uri": f"{issuer}/1"}})


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    "status",
    [
        None,
        True,
        [],
        "valid",
        {},
        {"status_list": None},
        {"status_list": []},
        {"status_list": {"idx": 0}},
        {"status_list": {"uri": URI}},
        {"status_list": {"idx": -1, "uri": URI}},
        {"status_list": {"idx": "0", "uri": URI}},
        {"status_list": {"idx": 0.0, "uri": URI}},
        {"status_list": {"idx": False, "uri": URI}},
        {"status_list": {"idx": 0, "uri": [URI]}},
        {"identifier_list": {"id": "1", "uri": URI}},
    ],
    ids=str,
)
def test_a_status_that_cannot_be_checked_is_refused(lists: StatusLists, status: object) -> None:
    """A `status` claim of another kind or of the wrong types never passes for "not revoked"."""
    with pytest.raises(MalformedTokenError, match="does not name a place"):
        lists.reference(status)


# --- how long a list counts ---


@pytest.mark.req("RV9")
def test_a_list_is_fetched_when_it_is_first_named_and_serves_all_its_tokens(
    lists: StatusLists, signed: Callable[..., bytes]
) -> None:
    """One bounded GET of the named URI, and every place of the list is known."""
    steps = lists.obtain(_at(7))
    assert _go(steps) == Get(
        url=URI, what="the issuer's status list", accept="application/statuslist+jwt", limit=1024 * 1024
    )
    done = _go(steps, signed([7]))
    assert isinstance(done, _Done)
    assert done.value == 1
    assert [lists.peek(_at(index)) for index in (6, 7, 8)] == [0, 1, 0]


@pytest.mark.req("RV9")
def test_a_revocation_is_seen_within_the_promised_seconds(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]
) -> None:
    """Due at half of `revocation_max_age`: one fetches, others may use the old list until that age is reached."""
    assert _fetch(lists, 7, signed()) == 0
    clock.advance(MAX_AGE / 2 - 0.001)
    assert lists.peek(_at(7)) == 0
    clock.advance(0.001)
    assert lists.peek(_at(7)) is None
    clock.advance(MAX_AGE / 2 - 5)
    leader = lists.obtain(_at(7))
    assert isinstance(_go(leader), Get)
    assert _without_fetching(lists, 7) == 0
    clock.advance(5.0)
    assert isinstance(_go(lists.obtain(_at(7))), Wait), "the old list is used for not one moment longer"
    done = _go(leader, signed([7]))
    assert isinstance(done, _Done)
    assert done.value == 1


@pytest.mark.req("RV9")
@pytest.mark.parametrize("early", [-1.0, 0.0, 1.0])
def test_an_unreachable_list_refuses_everything_once_it_is_too_old(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes], early: float
) -> None:
    """Up to `revocation_max_age` the last good list serves; from that second on nothing is valid."""
    assert _fetch(lists, 7, signed()) == 0
    clock.advance(MAX_AGE + early)
    steps = lists.obtain(_at(7))
    assert isinstance(_go(steps), Get)
    if early < 0:
        done = _go(steps, _down())
        assert isinstance(done, _Done)
        assert done.value == 0
        clock.advance(-early)
        steps = lists.obtain(_at(7))
    with pytest.raises(VerificationUnavailableError):
        _go(steps, _down() if early >= 0 else None)
    clock.advance(COOLDOWN)
    assert _fetch(lists, 7, signed()) == 0, "and it works again when the list does"


@pytest.mark.req("RV9")
def test_a_dead_status_endpoint_is_not_hammered(lists: StatusLists, clock: FakeClock) -> None:
    """One fetch in each pause, however many tokens come."""
    fetches = 0
    for _ in range(600):
        clock.advance(0.1)
        steps = lists.obtain(_at(7))
        try:
            assert isinstance(_go(steps), Get)
        except VerificationUnavailableError:
            continue
        fetches += 1
        with pytest.raises(VerificationUnavailableError):
            _go(steps, _down())
    assert fetches == 60 / COOLDOWN


def test_the_list_may_ask_to_be_fetched_sooner(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]
) -> None:
    """A `ttl` below half of the age makes the list due sooner; one above it changes nothing."""
    _fetch(lists, 7, signed(ttl=3))
    clock.advance(2.999)
    assert lists.peek(_at(7)) == 0
    clock.advance(0.001)
    assert lists.peek(_at(7)) is None
    _fetch(lists, 7, signed(ttl=10**6))
    clock.advance(MAX_AGE / 2)
    assert lists.peek(_at(7)) is None


@pytest.mark.req("RV9")
def test_a_list_serves_no_longer_than_it_says(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]
) -> None:
    """A list's own `exp` ends it, though it would be young enough; an expired one is not taken at all."""
    _fetch(lists, 7, signed(exp=int(clock.wall()) + 10))
    clock.advance(10 + LEEWAY)
    steps = lists.obtain(_at(7))
    assert isinstance(_go(steps), Get)
    with pytest.raises(VerificationUnavailableError, match="expired"):
        _go(steps, signed(iat=int(clock.wall()) - 5, exp=int(clock.wall() - LEEWAY)))


FAR = 253_402_300_799  # the last second that a list can name


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ({}, MAX_AGE),
        ({"ttl": 3}, MAX_AGE),
        ({"ttl": 10**6}, MAX_AGE),
        ({"exp": FAR, "ttl": 3}, 3 + MAX_AGE),
        ({"exp": FAR, "ttl": 300}, 300 + MAX_AGE),
    ],
    ids=str,
)
def test_a_copy_of_an_old_list_is_refused(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes], bounds: dict[str, int], counts: float
) -> None:
    """A list that somebody kept is good until its signed `iat` is too long ago: to the second, by whomever it comes."""
    issued_at = int(clock.wall())
    old = signed(iat=issued_at, **bounds)
    clock.advance(counts + LEEWAY)
    assert _fetch(lists, 7, old) == 0
    clock.advance(1.0)
    steps = lists.obtain(_at(7))
    assert isinstance(_go(steps), Get), "what was one second from its end has ended"
    with pytest.raises(VerificationUnavailableError, match="signed too long ago"):
        _go(steps, old)
    clock.advance(COOLDOWN)
    assert _fetch(lists, 7, signed([7], **bounds)) == 1


@pytest.mark.req("RV9")
def test_a_list_that_is_signed_seldom_says_so_by_its_exp(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]
) -> None:
    """An issuer that names only an `exp` has signed that the list counts until then."""
    seldom = signed(exp=int(clock.wall()) + 86400)
    clock.advance(86400 + LEEWAY - 1)
    assert _fetch(lists, 7, seldom) == 0
    clock.advance(1.0)
    steps = lists.obtain(_at(7))
    assert isinstance(_go(steps), Get)
    with pytest.raises(VerificationUnavailableError, match="expired"):
        _go(steps, seldom)


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    "spoil",
    [
        {"header": {"typ": "JWT"}},
        {"header": {"typ": "application/statuslist+jwt"}},
        {"header": {"alg": "none"}},
        {"header": {"kid": "unknown"}},
        {"header": {"crit": ["x"]}},
        {"omit": "iat"},
        {"omit": "sub"},
        {"omit": "status_list"},
        {"sub": ISSUER},
        {"iss": "https://other.example"},
    ],
    ids=str,
)
def test_a_list_that_is_not_good_counts_as_not_obtained(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes], spoil: dict[str, Any]
) -> None:
    """Another kind of token, key, subject or issuer: refused, and the last good list goes on until its age."""
    steps = lists.obtain(_at(7))
    _go(steps)
    with pytest.raises(VerificationUnavailableError, match="refused"):
        _go(steps, signed(**spoil))
    clock.advance(COOLDOWN)
    assert _fetch(lists, 7, signed([7])) == 1
    clock.advance(MAX_AGE / 2)
    assert _fetch(lists, 7, signed(**spoil)) == 1


@pytest.mark.req("RV9")
def test_a_list_signed_by_a_stranger_counts_as_not_obtained(
    lists: StatusLists, key: SigningKey, stranger: SigningKey, signed: Callable[..., bytes]
) -> None:
    """A stranger's signature is no list, also under the name of the issuer's key."""
    steps = lists.obtain(_at(7))
    _go(steps)
    with pytest.raises(VerificationUnavailableError, match="refused"):
        _go(steps, signed(by=stranger, header={"kid": key.kid}))


@pytest.mark.req("RV9")
@pytest.mark.parametrize("reply", [b"", b"nonsense", b"a.b.c", b"\xff" * 10, b'{"status_list":{}}', b"x" * 2**20])
def test_garbage_is_no_list(lists: StatusLists, reply: bytes) -> None:
    """Whatever is not a signed list is refused as "cannot be had", with nothing of it in the message."""
    steps = lists.obtain(_at(7))
    _go(steps)
    with pytest.raises(VerificationUnavailableError, match="status list is refused"):
        _go(steps, reply)


@pytest.mark.req("RV9")
def test_an_old_list_cannot_be_played_back(lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]) -> None:
    """A list issued before the one that is held counts as not obtained, also when that one has become too old."""
    old = signed()
    clock.advance(10.0)
    assert _fetch(lists, 7, signed([7])) == 1
    clock.advance(MAX_AGE / 2)
    assert _fetch(lists, 7, old) == 1
    clock.advance(MAX_AGE / 2)
    steps = lists.obtain(_at(7))
    assert isinstance(_go(steps), Get)
    with pytest.raises(VerificationUnavailableError, match="played back"):
        _go(steps, old)


@pytest.mark.req("RV9")
def test_a_list_from_the_future_is_refused(lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]) -> None:
    """A list issued later than now, beyond the leeway, would make every good one after it look old."""
    steps = lists.obtain(_at(7))
    _go(steps)
    with pytest.raises(VerificationUnavailableError, match="future"):
        _go(steps, signed(iat=int(clock.wall() + LEEWAY) + 1))
    clock.advance(COOLDOWN)
    assert _fetch(lists, 7, signed(iat=int(clock.wall() + LEEWAY))) == 0


@pytest.mark.req("RV9")
def test_a_place_that_the_list_does_not_have_is_told_by_a_new_list_only(
    lists: StatusLists, clock: FakeClock, signed: Callable[..., bytes]
) -> None:
    """A list may have grown since it was fetched: it is fetched again before its end is held against a token."""
    assert _fetch(lists, 7, signed()) == 0
    clock.advance(1.0)
    assert lists.peek(_at(1024)) is None
    assert _fetch(lists, 1024, signed(status_list=pack_statuses([1024], 2048))) == 1
    clock.advance(1.0)
    assert _fetch(lists, 5000, signed()) is None


def _numbered(number: int) -> StatusReference:
    return _at(0, f"{ISSUER}/lists/{number}")


def _fetch_numbered(lists: StatusLists, number: int, signed: Callable[..., bytes]) -> None:
    steps = lists.obtain(_numbered(number))
    assert isinstance(_go(steps), Get)
    assert isinstance(_go(steps, signed(sub=_numbered(number).uri)), _Done)


@pytest.mark.req("RV9")
@pytest.mark.parametrize("bound", ["_MOST_LISTS", "_MOST_BYTES"])
def test_lists_are_bounded_and_the_one_that_was_used_longest_ago_goes(
    lists: StatusLists, signed: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Their number and their size have an end; a list in use stays, however early it was named first."""
    monkeypatch.setattr(f"authsec_core._status_list.{bound}", 3 if bound == "_MOST_LISTS" else 3 * 1024 // 8)
    for number in range(3):
        _fetch_numbered(lists, number, signed)
    assert lists.peek(_numbered(0)) == 0
    assert _go(lists.obtain(_numbered(1))).value == 0  # type: ignore[union-attr]  # no Get: it is at hand
    _fetch_numbered(lists, 3, signed)
    assert [lists.peek(_numbered(number)) for number in range(4)] == [0, 0, None, 0]
    _fetch_numbered(lists, 4, signed)
    assert [lists.peek(_numbered(number)) for number in range(5)] == [None, 0, None, 0, 0]
    assert len(lists._lists) == 3


@pytest.mark.req("RV9")
def test_many_lists_are_fetched_once_each(lists: StatusLists, signed: Callable[..., bytes]) -> None:
    """An issuer that spreads its tokens over hundreds of lists does not have each of them fetched for each token."""
    for number in range(300):
        _fetch_numbered(lists, number, signed)
    assert all(lists.peek(_numbered(number)) == 0 for number in range(300))


@pytest.mark.req("RV9")
def test_a_list_that_was_dropped_during_its_fetch_still_answers(
    lists: StatusLists, signed: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making room takes nothing from those who are waiting."""
    monkeypatch.setattr("authsec_core._status_list._MOST_LISTS", 1)
    slow = lists.obtain(_numbered(0))
    assert isinstance(_go(slow), Get)
    _fetch_numbered(lists, 1, signed)
    done = _go(slow, signed([0], sub=_numbered(0).uri))
    assert isinstance(done, _Done)
    assert done.value == 1
    assert (lists.peek(_numbered(0)), lists.peek(_numbered(1))) == (None, 0)


@pytest.mark.req("RV9")
def test_a_list_may_be_signed_with_a_key_that_is_not_known_yet(
    clock: FakeClock, key: SigningKey, signed: Callable[..., bytes]
) -> None:
    """Verifying a list looks its key up as a token's is: at the issuer, once; no key, no list."""
    url = f"{ISSUER}/.well-known/jwks.json"
    keys = RemoteKeys(url, clock=clock, refresh=300.0, max_age=3600.0, pace=PACE)
    lists = StatusLists(ISSUER, keys, clock=clock, max_age=MAX_AGE, leeway=LEEWAY, pace=PACE)
    steps = lists.obtain(_at(7))
    assert isinstance(_go(steps), Get)
    step = _go(steps, signed([7]))
    assert isinstance(step, Get)
    assert step.url == url
    with pytest.raises(VerificationUnavailableError):
        _go(steps, _down())
