"""A value opens only with its master key, only as the version of the secret that it is, and only if nothing changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.errors import UnsealError, WrongMasterKeyError
from authsec_server.keys.masterkey import MasterKey
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.sealing import DATA_KEY, seal, unseal
from authsec_server.vault.envelope import Envelope, SealedValue, name_of

MASTER = MasterKey.generate()
MASTERS = MasterKeys([MASTER])
ENVELOPE = Envelope(MASTERS, tenant="tenant-1")
PATH = "production/openai/api-key"
VALUE = "sk-canary-of-the-envelope"
KEPT = ENVELOPE.seal(MASTER, PATH, 3, VALUE)


@pytest.mark.req("RW1")
@given(value=st.text(min_size=1))
def test_what_was_sealed_is_opened(value: str) -> None:
    """Whatever text it is comes back."""
    assert ENVELOPE.open(PATH, 3, ENVELOPE.seal(MASTER, PATH, 3, value)) == value


@pytest.mark.req("RW1")
def test_nothing_of_it_can_be_seen() -> None:
    """Neither in what is stored nor in the reprs; equal values do not show that they are, and each has its own key."""
    stored = [ENVELOPE.seal(MASTER, PATH, 3, VALUE) for _ in range(100)]
    assert not any(VALUE.encode() in kept.sealed + kept.wrapped_key for kept in stored)
    keys = {unseal(MASTERS, DATA_KEY, name_of(PATH, 3), "tenant-1", kept.wrapped_key) for kept in stored}
    assert len(keys) == len({kept.sealed for kept in stored}) == len({kept.sealed[1:13] for kept in stored}) == 100
    assert repr(KEPT) == "SealedValue()"


@pytest.mark.req("RW1")
@pytest.mark.parametrize("part", ["wrapped_key", "sealed"])
def test_every_flipped_bit_is_noticed(part: str) -> None:
    """In what tells the layout and the master key, in nonce, ciphertext and tag; and no word of the value is said."""
    assert ENVELOPE.open(PATH, 3, KEPT) == VALUE, "its data key is remembered from here on"
    whole: bytes = getattr(KEPT, part)
    for place in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[place] ^= 1 << bit
            with pytest.raises(UnsealError, match=PATH) as caught:
                ENVELOPE.open(PATH, 3, replace(KEPT, **{part: bytes(broken)}))
            assert VALUE not in str(caught.value)


@pytest.mark.req("RW1")
@pytest.mark.parametrize("part", ["wrapped_key", "sealed"])
def test_every_cut_is_noticed(part: str) -> None:
    """At the end and at the beginning, down to nothing; and so is what was added."""
    whole: bytes = getattr(KEPT, part)
    for length in range(len(whole)):
        for broken in (whole[:length], whole[len(whole) - length :]):
            with pytest.raises(UnsealError):
                ENVELOPE.open(PATH, 3, replace(KEPT, **{part: broken}))
    with pytest.raises(UnsealError):
        ENVELOPE.open(PATH, 3, replace(KEPT, **{part: whole + b"\x00"}))


@pytest.mark.req("RW1")
@pytest.mark.parametrize(
    ("path", "version", "tenant"),
    [
        ("production/openai/api-kex", 3, "tenant-1"),
        ("production/openai", 3, "tenant-1"),
        (PATH, 2, "tenant-1"),
        (PATH, 4, "tenant-1"),
        (PATH, 33, "tenant-1"),
        (PATH, 3, "tenant-2"),
        (PATH, 3, "tenant-1/production"),
    ],
)
def test_what_was_moved_or_rolled_back_does_not_open(path: str, version: int, tenant: str) -> None:
    """As another secret, an earlier or later version, or of another tenant: whole, and each half by itself."""
    other = Envelope(MASTERS, tenant=tenant)
    there = other.seal(MASTER, path, version, "what belongs there")
    halves = [replace(there, sealed=KEPT.sealed), replace(there, wrapped_key=KEPT.wrapped_key)]
    for moved in (KEPT, *halves):
        with pytest.raises(UnsealError):
            other.open(path, version, moved)


@pytest.mark.req("RW1")
@pytest.mark.parametrize(("path", "version"), [(PATH, 4), ("production/openai/other", 3)])
def test_the_value_and_its_key_are_each_bound_to_what_they_are(path: str, version: int) -> None:
    """A value does not open as something else even with its key sealed for that; nor does the key by itself."""
    key = unseal(MASTERS, DATA_KEY, name_of(PATH, 3), "tenant-1", KEPT.wrapped_key)
    moved = seal(MASTER, DATA_KEY, name_of(path, version), "tenant-1", key)
    with pytest.raises(UnsealError):
        ENVELOPE.open(path, version, replace(KEPT, wrapped_key=moved))
    with pytest.raises(UnsealError):
        unseal(MASTERS, DATA_KEY, name_of(path, version), "tenant-1", KEPT.wrapped_key)


@pytest.mark.req("RW1")
def test_a_key_of_another_value_of_the_same_version_does_not_open_it() -> None:
    """A data key is for one value: a value of the same name, sealed anew, cannot be mixed with the one before."""
    again = ENVELOPE.seal(MASTER, PATH, 3, VALUE)
    with pytest.raises(UnsealError):
        ENVELOPE.open(PATH, 3, replace(KEPT, sealed=again.sealed))


@pytest.mark.req("RW1")
def test_what_else_the_master_key_seals_is_no_data_key() -> None:
    """A key that was sealed for another purpose opens nothing, even under the same name."""
    wrapped = seal(MASTER, "signing key", name_of(PATH, 3), "tenant-1", bytes(32))
    with pytest.raises(UnsealError):
        ENVELOPE.open(PATH, 3, SealedValue(wrapped_key=wrapped, sealed=KEPT.sealed))


@pytest.mark.req("RW1")
def test_another_master_key_is_named() -> None:
    """The operator is told which key is missing, by its public id."""
    with pytest.raises(WrongMasterKeyError, match=MASTER.id):
        Envelope(MasterKeys([MasterKey.generate()]), tenant="tenant-1").open(PATH, 3, KEPT)
