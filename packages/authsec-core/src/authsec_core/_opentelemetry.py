"""Has the application set up an OpenTelemetry SDK, and with what does a package of ours then tell it?

It loads nothing: a provider can only have been set by an application that has loaded `opentelemetry` itself, and before
that nothing is recorded. What is told is for each package to say.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from authsec_core._fork import renew_after_fork
from authsec_core._version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

__all__ = ["Application", "find_tracer", "harmless"]

_STAND_INS: Final = ("opentelemetry.trace", "opentelemetry.metrics")  # where the API keeps its proxies and no-ops
_log = logging.getLogger("authsec")

T = TypeVar("T")


class Application(Generic[T]):
    """The application's tracer, and instruments of its meter, from the moment that it has set up an SDK.

    Args:
        scope: The instrumentation scope: who speaks.
        make: Makes the instruments.
    """

    def __init__(self, scope: str, make: Callable[[Meter], T]) -> None:
        self._scope, self._make = scope, make
        self._tracer: Tracer | None = None
        self._instruments: T | None = None
        self._lock = threading.Lock()  # two threads must not make the same instrument twice: both would be exported
        renew_after_fork(self)

    def tracer(self) -> Tracer | None:
        """Return the tracer, if there is one."""
        if self._tracer is None:
            self._tracer = find_tracer(self._scope)
        return self._tracer

    def instruments(self) -> T | None:
        """Return the instruments, always the same, if anyone measures."""
        if self._instruments is None:
            meter = _find_meter(self._scope)
            if meter is not None:
                with self._lock:
                    if self._instruments is None:
                        self._instruments = self._make(meter)
        return self._instruments

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()


def find_tracer(scope: str) -> Tracer | None:
    """Return the application's tracer for who speaks as `scope`, if an SDK is set up. Loads nothing."""
    if not _is_loaded("opentelemetry.trace"):
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    tracer = provider.get_tracer(scope, __version__) if _does_something(provider) else None
    return tracer if tracer is not None and _does_something(tracer) else None


def _find_meter(scope: str) -> Meter | None:
    if not _is_loaded("opentelemetry.metrics"):
        return None
    from opentelemetry import metrics

    provider = metrics.get_meter_provider()
    meter = provider.get_meter(scope, __version__) if _does_something(provider) else None
    return meter if meter is not None and _does_something(meter) else None


@contextmanager
def harmless() -> Iterator[None]:
    """Let nothing that the application's SDK, processors or exporters raise take a token or an answer from a caller."""
    try:
        yield
    except Exception:  # noqa: BLE001 -- the rim: what they are told is no part of what was asked of us
        _log.debug("OpenTelemetry could not be told", exc_info=True)


def _is_loaded(module: str) -> bool:
    return sys.modules.get(module) is not None  # None is how programs forbid an import


def _does_something(found: object) -> bool:
    """Tell an SDK's provider, tracer or meter from what the API puts in its place while there is none."""
    return not type(found).__module__.startswith(_STAND_INS)
