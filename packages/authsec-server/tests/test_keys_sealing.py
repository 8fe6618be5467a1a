"""What is sealed opens only with its master key, only as what it is, and only if nothing was changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.errors import ConfigurationError
from authsec_server.errors import UnsealError, WrongMasterKeyError
from authsec_server.keys.masterkey import MasterKey
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.sealing import seal, sealed_with, unseal

MASTER, OTHER = MasterKey.generate(), MasterKey.generate()
RING = MasterKeys([MASTER])
PLAIN = b"the private half of a key"
SEALED = seal(MASTER, "signing key", "kid-1", "tenant-1", PLAIN)


def opened(sealed: bytes, masters: MasterKeys = RING) -> bytes:
    """Open it as what it was sealed as."""
    return unseal(masters, "signing key", "kid-1", "tenant-1", sealed)


@pytest.mark.req("RA7")
def test_what_was_sealed_is_opened() -> None:
    """The plaintext comes back, and is not to be seen in what is stored."""
    assert opened(SEALED) == PLAIN
    assert PLAIN not in SEALED
    assert opened(seal(MASTER, "signing key", "kid-1", "tenant-1", b"")) == b""


@pytest.mark.req("RA7")
def test_no_two_seals_are_alike() -> None:
    """Each has its own nonce: equal plaintexts do not show that they are."""
    nonces = {seal(MASTER, "p", "i", "t", PLAIN)[5:17] for _ in range(200)}
    assert len(nonces) == 200


@pytest.mark.req("RA7")
def test_every_flipped_bit_is_noticed() -> None:
    """In the version, the key id, the nonce, the ciphertext and the tag."""
    for place in range(len(SEALED)):
        for bit in range(8):
            broken = bytearray(SEALED)
            broken[place] ^= 1 << bit
            with pytest.raises(UnsealError, match="the signing key 'kid-1'"):
                opened(bytes(broken))


@pytest.mark.req("RA7")
def test_every_cut_is_noticed() -> None:
    """At the end and at the beginning, down to nothing; and so is what was added."""
    for length in range(len(SEALED)):
        for broken in (SEALED[:length], SEALED[len(SEALED) - length :]):
            with pytest.raises(UnsealError):
                opened(broken)
    with pytest.raises(UnsealError):
        opened(SEALED + b"\x00")


@pytest.mark.req("RA7")
@pytest.mark.parametrize(
    "moved",
    [
        ("pepper", "kid-1", "tenant-1"),
        ("signing key", "kid-2", "tenant-1"),
        ("signing key", "kid-1", "tenant-2"),
        ("signing key", "tenant-1", "kid-1"),
        ("signing keykid-1", "", "tenant-1"),
        ("signing key", "", "tenant-1kid-1"),
    ],
)
def test_it_does_not_open_as_something_else(moved: tuple[str, str, str]) -> None:
    """Another purpose, name or tenant, and no other way to divide the same text; the message says what it may be."""
    with pytest.raises(UnsealError, match=r"moved here from another row.*backup"):
        unseal(RING, *moved, SEALED)


@pytest.mark.req("RA7")
@given(names=st.tuples(st.text(), st.text(), st.text()), others=st.tuples(st.text(), st.text(), st.text()))
def test_it_opens_as_itself_and_as_nothing_else(names: tuple[str, str, str], others: tuple[str, str, str]) -> None:
    """For any names: those that it was sealed with open it, and others only if they are the same."""
    sealed = seal(MASTER, *names, PLAIN)
    assert unseal(RING, *names, sealed) == PLAIN
    if others != names:
        with pytest.raises(UnsealError):
            unseal(RING, *others, sealed)


@pytest.mark.req("RA7")
def test_another_master_key_is_told_apart_from_damage() -> None:
    """The message names both ids, so that one can find the right file; what was set is a setting to mend."""
    with pytest.raises(WrongMasterKeyError, match=f"{MASTER.id}.*{OTHER.id}") as refused:
        opened(SEALED, MasterKeys([OTHER]))
    assert isinstance(refused.value, ConfigurationError)
    assert sealed_with(SEALED) == MASTER.id
    with pytest.raises(UnsealError) as damaged:
        opened(SEALED[:-1] + bytes([SEALED[-1] ^ 1]))
    assert not isinstance(damaged.value, WrongMasterKeyError)


@pytest.mark.req("RS8")
def test_no_message_shows_what_is_sealed() -> None:
    """Neither the plaintext nor the key is in an error or in what it stems from."""
    with pytest.raises(UnsealError) as refused:
        opened(SEALED[:-1])
    told = f"{refused.value!r} {refused.value.__cause__!r}"
    assert PLAIN.decode() not in told
    assert repr(MASTER.reveal()) not in told
