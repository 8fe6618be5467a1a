"""The authority's metrics, for Prometheus. Names are as https://prometheus.io/docs/practices/naming/ has it.

A registry for each app. Every label has a small closed set of values: no client, no token, no path as it was sent and
no scope is one, so that nobody outside can make series. With `PROMETHEUS_MULTIPROC_DIR` set before the library is
loaded, the processes of one server write to files there, and whichever is asked answers for all of them:
https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from authsec_server.audit.entry import Entry
from authsec_server.telemetry.observer import Level, Observer

__all__ = ["OTHER", "Metrics"]

OTHER: Final = "other"
_MOST_SERIES: Final = 1_000  # of one metric: far more than there can be, should a label ever slip
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

_log = logging.getLogger("authsec.server")


_METRICS: Final[tuple[tuple[str, str, tuple[str, ...], tuple[float, ...]], ...]] = (
    # Name, meaning, labels, and the buckets of what is no counter.
    ("authsec_http_requests", "Requests that were answered", ("method", "route", "status"), ()),
    ("authsec_http_request_seconds", "From a request's head to the end of its answer", ("method", "route"), _SECONDS),
    ("authsec_decisions", "Entries of the audit", ("action", "decision", "reason"), ()),
    ("authsec_tokens_issued", "Tokens that were issued", (), ()),
    ("authsec_revocations", "What was revoked", ("what",), ()),
    ("authsec_ledger_batch_size", "Decisions in one transaction", (), _SIZES),
    ("authsec_ledger_transaction_seconds", "One transaction of the ledger", (), _SECONDS),
    ("authsec_signing_seconds", "One signature, and the wait for a thread to make it", (), _SECONDS),
    ("authsec_rate_limited", "Requests that have to wait", ("limit",), ()),
    ("authsec_connections_closed", "Connections that did not keep to the limits", ("why",), ()),
    ("authsec_database_errors", "What the database did not take", ("where",), ()),
    ("authsec_chores_failed", "What is done in time by itself, and failed", ("chore",), ()),
)
_LEVELS: Final[tuple[tuple[Level, str], ...]] = (
    ("ledger_waiting", "Decisions and changes that wait for a transaction"),
    ("connections", "Connections that are open"),
)


class Metrics(Observer):
    """Counts, and shows what it counted. Thread-safe."""

    __slots__ = ("_levels", "_registry", "_series", "_watched")

    def __init__(self) -> None:
        # Here, because the library decides while it is loaded whether there are several processes.
        import prometheus_client as library

        self._registry = registry = library.CollectorRegistry()
        self._series = {
            name: _Series(
                library.Histogram(name, meaning, labels, registry=registry, buckets=buckets)
                if buckets
                else library.Counter(name, meaning, labels, registry=registry),
                labels,
            )
            for name, meaning, labels, buckets in _METRICS
        }
        self._levels = {
            level: library.Gauge(f"authsec_{level}", meaning, registry=registry, multiprocess_mode="livesum")
            for level, meaning in _LEVELS
        }
        self._watched: dict[Level, Callable[[], float]] = {}
        if _VARIABLE not in os.environ:
            library.ProcessCollector(registry=registry)  # which knows the process that is asked, and no other

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """See `Observer`."""
        method, route = method if method in _METHODS else OTHER, route or OTHER
        self._series["authsec_http_requests"].of(method, route, str(status)).inc()
        self._series["authsec_http_request_seconds"].of(method, route).observe(seconds)

    def settled(self, entries: Sequence[Entry], *, asked: int, issued: int, seconds: float) -> None:
        """See `Observer`."""
        alike = Counter((entry.action, entry.decision, entry.reason or "") for entry in entries)
        for (action, decision, reason), count in alike.items():
            self._series["authsec_decisions"].of(action, decision, reason).inc(count)
            what, _, done = action.rpartition(".")
            if done == "revoke" and decision == "allow":
                self._series["authsec_revocations"].of(what).inc(count)
        if issued:
            self._series["authsec_tokens_issued"].of().inc(issued)
        if asked:
            self._series["authsec_ledger_batch_size"].of().observe(asked)
        self._series["authsec_ledger_transaction_seconds"].of().observe(seconds)

    def signed(self, seconds: float) -> None:
        """See `Observer`."""
        self._series["authsec_signing_seconds"].of().observe(seconds)

    def limited(self, what: str) -> None:
        """See `Observer`."""
        self._series["authsec_rate_limited"].of(what).inc()

    def connection_closed(self, why: str) -> None:
        """See `Observer`."""
        self._series["authsec_connections_closed"].of(why).inc()

    def database_failed(self, where: str) -> None:
        """See `Observer`."""
        self._series["authsec_database_errors"].of(where).inc()

    def chore_failed(self, chore: str) -> None:
        """See `Observer`."""
        self._series["authsec_chores_failed"].of(chore).inc()

    def watch(self, level: Level, read: Callable[[], float]) -> None:
        """See `Observer`."""
        self._watched[level] = read

    async def look(self) -> None:
        """See `Observer`."""
        for level, read in self._watched.items():
            self._levels[level].set(read())

    def shown(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their media type, in the format that fits this `Accept` header. Reads files, maybe."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        encode, media_type = choose_encoder(accept)
        registry = self._registry
        if _VARIABLE in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's
        return encode(registry), media_type


class _Series:
    """The series of one metric, each looked up once."""

    __slots__ = ("_labels", "_metric", "_series")

    def __init__(self, metric: Any, labels: tuple[str, ...]) -> None:
        self._metric, self._labels = metric, labels
        self._series: dict[tuple[str, ...], Any] = {} if labels else {(): metric}

    def of(self, *values: str) -> Any:
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= _MOST_SERIES:
                values = (OTHER,) * len(self._labels)
            try:
                found = self._series[values] = self._metric.labels(*values)
            except OSError:  # of several processes' files; a full disk must not end what is counted
                _log.warning("a metric cannot be written", exc_info=True)
                return _NOWHERE
        return found


class _Nowhere:
    """What counts where nothing can be counted."""

    def inc(self, amount: float = 1) -> None:
        return None

    def observe(self, amount: float) -> None:
        return None


_NOWHERE: Final = _Nowhere()
