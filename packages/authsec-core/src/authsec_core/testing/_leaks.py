"""What a test showed while it ran: printed, logged, sent to a model, or handed over. Did a secret get out there?

It collects; how a secret is recognised is decided in `_canary`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from authsec_core.testing._canary import assert_no_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

__all__ = ["LeakScan"]

_KEY = "AUTHSEC_AGENT_KEY"


class LeakScan:
    """What `authsec_no_leaks` looks for, and where. Thread-safe.

    Without being told it knows the tokens and keys of `authsec_mock` and `authsec_authority`, and `AUTHSEC_AGENT_KEY`;
    and it looks at what was printed and logged, and at all that left for the models of `scripted_model`.

    Args:
        made: What the test's other fixtures have made. They add to it.
    """

    def __init__(self, made: Sequence[object]) -> None:
        self._made = made
        # Appended to and copied, both of which are one step for other threads.
        self._secrets: list[str] = []
        self._material: list[object] = []
        self._printed: list[str | bytes] = []
        self._logged = _Records()

    def watch(self, *secrets: str) -> None:
        """Look for these too, at least 8 characters each."""
        self._secrets += secrets

    def include(self, *material: object) -> None:
        """Look into these too; into what they show when the test has ended."""
        self._material += material

    def check(self) -> None:
        """Look, at all that was shown until now. The fixture does it at the end of each test that passes.

        Raises:
            AssertionError: A secret was shown; where, and in which guise. Or the test had no secret at all, so that
                nothing could have been found.
        """
        __tracebackhide__ = True
        secrets = dict.fromkeys([*self._secrets, *self._own_secrets()])
        if not secrets:
            raise AssertionError("no token was issued in this test, so there was nothing to look for")
        models = [thing.transcript for thing in self._made if hasattr(thing, "transcript")]
        shown = {
            "printed": list(self._printed),
            "logged": list(self._logged.records),
            "sent to models": models,
            "included": list(self._material),
        }
        for how, material in shown.items():
            assert_no_secret({how: material}, *secrets)

    @contextmanager
    def listening(self, capture: pytest.CaptureFixture[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Note what is logged and printed, also where the test itself takes it out of `capture`."""
        read = capture.readouterr

        def noted() -> Any:
            result = read()
            self._printed += result
            return result

        monkeypatch.setattr(capture, "readouterr", noted)
        logging.getLogger().addHandler(self._logged)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self._logged)
            noted()  # pytest has a copy of what the test printed, and shows that

    def _own_secrets(self) -> list[str]:
        issued = [secret for thing in self._made for secret in getattr(thing, "secrets", ())]
        return issued + [value for name, value in os.environ.items() if name == _KEY]


class _Records(logging.Handler):
    """Keeps every record that reaches it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
