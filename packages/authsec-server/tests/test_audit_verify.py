"""Whatever is done to an audit, the first bad entry is named; and a whole one passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from audit_support import START, checkpoints, entry, head, keys, log, row
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.audit.chain import GENESIS, chained
from authsec_server.audit.integrity import AuditRow, Head
from authsec_server.audit.verify import verify_audit
from authsec_server.errors import DamagedAuditError

WHOLE = log(24)


def first_bad(rows: list[AuditRow], signed: list[str] | None = None, end: Head | None = None) -> tuple[int, str]:
    """Return which entry is named, and what is said of it."""
    with pytest.raises(DamagedAuditError) as caught:
        verify_audit(rows, signed or [], keys(), head=end)
    return caught.value.seq, str(caught.value)


def renumbered(rows: list[AuditRow]) -> list[AuditRow]:
    """Close the gaps in the column `seq`."""
    return [found._replace(seq=seq) for seq, found in enumerate(rows, 1)]


def chained_again(rows: list[AuditRow], first: int) -> list[AuditRow]:
    """Do what someone with the database and our code can do: make all hashes fit, from one entry on."""
    made, previous = rows[: first - 1], rows[first - 2].hash if first > 1 else GENESIS
    for found in rows[first - 1 :]:
        made.append(found._replace(hash=chained(previous, found.text)))
        previous = made[-1].hash
    return made


def rewritten(found: AuditRow, **said: object) -> AuditRow:
    """Change what the line says, and neither its hash nor the columns."""
    line = {**json.loads(found.text), **said}
    return found._replace(text=json.dumps(line, sort_keys=True, separators=(",", ":")))


lengths = st.integers(1, 24)


@given(length=st.integers(0, 24), signed=st.sets(st.integers(1, 24), max_size=3))
@pytest.mark.req("RU2")
def test_a_whole_audit_passes(length: int, signed: set[int]) -> None:
    """No change, no alarm, with any checkpoints; and the report says how far it was vouched for."""
    rows = WHOLE[:length]
    seqs = sorted(seq for seq in signed if seq <= length)
    report = verify_audit(rows, checkpoints(WHOLE, seqs), keys(), head=head(rows))
    assert (report.entries, report.last_seq, report.last_hash) == (length, length, head(rows).hash)
    assert (report.checkpoints, report.last_checkpoint) == (len(seqs), max(seqs, default=0))


@given(data=st.data(), length=lengths)
@pytest.mark.req("RU2")
def test_an_edited_entry_is_named(data: st.DataObject, length: int) -> None:
    """Any change of any column of one entry is found at that entry."""
    rows = WHOLE[:length]
    at = data.draw(st.integers(0, length - 1))
    found = rows[at]
    changed = data.draw(
        st.sampled_from(
            [
                found._replace(at=found.at + 0.001),
                found._replace(at=float("nan")),
                found._replace(action="client.revoke"),
                found._replace(decision="deny"),
                found._replace(actor="operator:mallory"),
                found._replace(client_id="someone-else"),
                found._replace(jti=None),
                found._replace(hash="0" * 64),
                found._replace(text=found.text.replace("allow", "deny ")),
                found._replace(text=found.text + " "),
                found._replace(text=found.text.replace("request-", "request_")),
                found._replace(text="not JSON"),
                found._replace(text="[" * 100_000),
                found._replace(text="[]"),
                found._replace(text='{"seq":1}'),
                found._replace(text="é"),
                found._replace(text=""),
            ]
        )
    )
    damaged = [*rows[:at], changed, *rows[at + 1 :]]
    assert first_bad(damaged, end=head(rows))[0] == at + 1


@given(data=st.data(), length=lengths)
@pytest.mark.req("RU2")
def test_one_changed_character_of_a_line_is_found(data: st.DataObject, length: int) -> None:
    """Wherever it is: the chain, the place or the columns no longer fit."""
    rows = WHOLE[:length]
    at = data.draw(st.integers(0, length - 1))
    text = rows[at].text
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters().filter(lambda character: character != text[place]))
    changed = rows[at]._replace(text=text[:place] + character + text[place + 1 :])
    assert first_bad([*rows[:at], changed, *rows[at + 1 :]], end=head(rows))[0] == at + 1


@given(data=st.data(), length=lengths, fix=st.booleans())
@pytest.mark.req("RU2")
def test_deleted_entries_are_named(data: st.DataObject, length: int, fix: bool) -> None:
    """Also where all that follow were moved up to close the gap: the first that is missing is named."""
    rows = WHOLE[:length]
    first = data.draw(st.integers(1, length))
    last = data.draw(st.integers(first, length))
    left = [*rows[: first - 1], *rows[last:]]
    seq, why = first_bad(renumbered(left) if fix else left, end=head(rows))
    assert seq == first
    assert ("cut" if last == length else "deleted") in why


@given(data=st.data(), length=st.integers(2, 24))
@pytest.mark.req("RU2")
def test_swapped_entries_are_named(data: st.DataObject, length: int) -> None:
    """Of two entries that changed places the first is named, also if its line was made to say the right place."""
    rows = WHOLE[:length]
    first = data.draw(st.integers(1, length - 1))
    second = data.draw(st.integers(first + 1, length))
    a, b = rows[first - 1], rows[second - 1]
    rows[first - 1], rows[second - 1] = b._replace(seq=first), a._replace(seq=second)
    seq, why = first_bad(rows, end=head(WHOLE[:length]))
    assert seq == first
    assert "reordered" in why
    rows[first - 1] = rewritten(rows[first - 1], seq=first)
    assert first_bad(rows, end=head(WHOLE[:length]))[0] == first


@given(data=st.data(), length=lengths, count=st.integers(1, 3))
@pytest.mark.req("RU2")
def test_inserted_entries_are_named(data: st.DataObject, length: int, count: int) -> None:
    """Well-formed entries that continue the chain, and all others moved down: the first foreign one is named."""
    rows = WHOLE[:length]
    first = data.draw(st.integers(1, length + 1))
    forged = rows[: first - 1]
    for seq in range(first, first + count):
        previous = forged[-1].hash if forged else GENESIS
        forged.append(row(seq, previous, entry(999, jti=f"forged-{seq}"), START))
    seq, why = first_bad(renumbered([*forged, *rows[first - 1 :]]), end=head(rows))
    assert seq == first
    assert "inserted" in why


@given(data=st.data(), length=lengths)
@pytest.mark.req("RU2")
def test_a_cut_tail_is_named_by_the_head_or_by_a_checkpoint(data: st.DataObject, length: int) -> None:
    """The head gives it away; if the head was set back too, any checkpoint of an entry that is gone."""
    rows = WHOLE[:length]
    kept = data.draw(st.integers(0, length - 1))
    signed = data.draw(st.integers(kept + 1, length))
    assert first_bad(rows[:kept], end=head(rows))[0] == kept + 1
    seq, why = first_bad(rows[:kept], checkpoints(WHOLE, [signed]), head(rows[:kept]))
    assert seq == kept + 1
    assert "cut" in why


@given(data=st.data(), length=lengths)
@pytest.mark.req("RU2")
def test_a_chain_that_was_made_again_contradicts_the_checkpoints(data: st.DataObject, length: int) -> None:
    """An entry was edited and all hashes and the head made to fit: the next checkpoint gives it away."""
    rows = WHOLE[:length]
    changed = data.draw(st.integers(1, length))
    signed = data.draw(st.sets(st.integers(1, length), min_size=1, max_size=4))
    damaged = [*rows[: changed - 1], rewritten(rows[changed - 1], request_id="x"), *rows[changed:]]
    damaged = chained_again(damaged, changed)
    after = [seq for seq in signed if seq >= changed]
    if not after:
        assert verify_audit(damaged, checkpoints(WHOLE, signed), keys(), head=head(damaged)).last_checkpoint < changed
        return
    seq, why = first_bad(damaged, checkpoints(WHOLE, signed), head(damaged))
    before = max((seq for seq in signed if seq < changed), default=0)
    assert seq == min(after)
    assert f"entry {before + 1} on" in why


@pytest.mark.req("RU2")
def test_an_entry_that_was_edited_with_its_hash_breaks_the_next() -> None:
    """The message then names both that can be to blame."""
    damaged = [*WHOLE[:4], *chained_again([*WHOLE[:4], rewritten(WHOLE[4], reason="x")], 5)[4:], *WHOLE[5:]]
    seq, why = first_bad(damaged, end=head(WHOLE))
    assert seq == 6
    assert "entry 5 together with its hash" in why
    assert first_bad(damaged[:5], end=head(WHOLE[:5]))[0] == 5  # the last one: the head has the true hash


@pytest.mark.req("RU2")
@pytest.mark.parametrize("order", [[1, 3, 2], [1, 2, 2], [2, 1], [0, 1]])
def test_places_in_the_chain_have_no_gaps_and_no_doubles(order: list[int]) -> None:
    """Rows that do not count 1, 2, 3 are refused."""
    verify_audit(WHOLE[:3], [], keys())
    with pytest.raises(DamagedAuditError):
        verify_audit([WHOLE[seq - 1]._replace(seq=seq) for seq in order], [], keys())


@pytest.mark.req("RU2")
def test_a_checkpoint_that_no_known_key_signed_is_named() -> None:
    """With another's key, or with a changed claim: the entry that it speaks of, unless an earlier one is bad."""
    foreign = checkpoints(WHOLE, [6], key=2)
    seq, why = first_bad(WHOLE, foreign, head(WHOLE))
    assert seq == 6
    assert "not among the given ones" in why
    header, _, signature = checkpoints(WHOLE, [6])[0].split(".")
    claims = checkpoints(WHOLE, [9])[0].split(".")[1]
    assert first_bad(WHOLE, [f"{header}.{claims}.{signature}"], head(WHOLE))[0] == 9
    assert first_bad([*WHOLE[:3], WHOLE[3]._replace(decision="deny")], foreign)[0] == 4


@pytest.mark.req("RU2")
def test_checkpoints_that_contradict_each_other_are_named() -> None:
    """Two good signatures over two histories: one of them is not what happened."""
    other = chained_again([rewritten(WHOLE[0], reason="x"), *WHOLE[1:]], 1)
    both = [*checkpoints(WHOLE, [5]), *checkpoints(other, [5])]
    seq, why = first_bad(WHOLE, both, head(WHOLE))
    assert seq == 5
    assert "contradicts" in why


def test_checkpoints_of_a_revoked_key_are_pointed_out() -> None:
    """They still have to agree, and the report says that whoever has the key can have made them."""
    believed = replace(keys(), revoked=frozenset(keys().public))
    report = verify_audit(WHOLE, checkpoints(WHOLE, [3, 4]), believed, head=head(WHOLE))
    assert report.checkpoints == 2
    assert "2 checkpoints are signed with the key" in report.notes[0]


def test_what_is_no_checkpoint_is_noted() -> None:
    """A torn line is not damage to the audit."""
    report = verify_audit(WHOLE, ["eyJhbGciOiJS"], keys(), head=head(WHOLE))
    assert report.notes == ("a checkpoint is not a whole checkpoint and was passed over",)


def many(length: int) -> Iterator[AuditRow]:
    """Make rows as they are asked for."""
    previous = GENESIS
    for seq in range(1, length + 1):
        made = row(seq, previous, entry(1), START)
        previous = made.hash
        yield made


def test_progress_is_told_and_a_long_audit_is_streamed() -> None:
    """Rows are taken one by one; progress is told each thousand of them."""
    told: list[tuple[int, int]] = []
    report = verify_audit(many(3500), [], keys(), head=None, progress=lambda done, of: told.append((done, of)))
    assert report.entries == 3500
    assert [done for done, _ in told] == [1000, 2000, 3000]
