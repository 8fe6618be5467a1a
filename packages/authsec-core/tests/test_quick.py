"""Values that are made quickly are the same values."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from authsec_core._quick import quickly


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A value of each kind of field."""

    name: str
    weight: int = 1
    marks: list[str] = field(default_factory=list, hash=False)
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A value that checks itself."""

    name: str

    def __post_init__(self) -> None:
        assert self.name


make = quickly(Parcel)


def test_they_are_equal_to_those_that_are_made_slowly() -> None:
    """Class, fields, defaults, equality, hash, repr, copies and pickles are those of the frozen class."""
    quick, slow = make(name="one", secret="two"), Parcel(name="one", secret="two")
    assert type(quick) is Parcel
    assert quick == slow
    assert hash(quick) == hash(slow)
    assert repr(quick) == repr(slow)
    assert copy.copy(quick) == slow
    assert type(pickle.loads(pickle.dumps(quick))) is Parcel  # noqa: S301 -- it was made here


def test_they_are_frozen() -> None:
    """No field of a value that is made quickly can be set, added or taken away."""
    quick = make(name="one")
    for name in ("name", "other", "__class__"):
        with pytest.raises((FrozenInstanceError, TypeError)):  # the latter from CPython, for what is no field
            setattr(quick, name, "two")
    with pytest.raises(FrozenInstanceError):
        del quick.name
    assert not hasattr(quick, "__dict__")


def test_each_has_its_own_defaults() -> None:
    """What a factory makes is made for each of them."""
    assert make(name="one").marks is not make(name="one").marks


def test_arguments_are_checked_as_before() -> None:
    """A field that is missing, one that is unknown, and one without its name are a TypeError."""
    for arguments in ({}, {"name": "one", "colour": "red"}):
        with pytest.raises(TypeError):
            make(**arguments)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(TypeError):
        make("one")  # type: ignore[call-arg]  # likewise


def test_what_checks_itself_is_not_made_without_it() -> None:
    """A class with a `__post_init__` is refused, which would be passed over."""
    with pytest.raises(TypeError, match="checks itself"):
        quickly(Checked)
