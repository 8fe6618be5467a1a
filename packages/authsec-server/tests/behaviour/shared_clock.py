"""A clock that several processes go by, and that a test can move for all of them, or for one alone."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from authsec_core._clock import SYSTEM_CLOCK

__all__ = ["SharedClock"]

_OFFSETS = struct.Struct("dd")  # seconds that calendar and steady clock are ahead of the system's


class SharedClock:
    """The system's clock, put forward by what is written in a file that all who go by it have open.

    Args:
        file: Made where it is missing.
    """

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(_OFFSETS.pack(0.0, 0.0))
        self.file = file
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _OFFSETS.size)
        self.sleep, self.asleep, self.chance = SYSTEM_CLOCK.sleep, SYSTEM_CLOCK.asleep, SYSTEM_CLOCK.chance

    def wall(self) -> float:
        """Return the epoch time."""
        return SYSTEM_CLOCK.wall() + float(_OFFSETS.unpack_from(self._memory)[0])

    def steady(self) -> float:
        """Return a reading that only differences of mean something."""
        return SYSTEM_CLOCK.steady() + float(_OFFSETS.unpack_from(self._memory)[1])

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        wall, steady = _OFFSETS.unpack_from(self._memory)
        _OFFSETS.pack_into(self._memory, 0, wall + seconds, steady + seconds)

    def jump(self, seconds: float) -> None:
        """Set the calendar, forward and back, as a bad time server does."""
        wall, steady = _OFFSETS.unpack_from(self._memory)
        _OFFSETS.pack_into(self._memory, 0, wall + seconds, steady)
