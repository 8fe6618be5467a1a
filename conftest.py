"""What holds for every test in the repository: no network beyond loopback, and none of the developer's own settings.

It provides no fixtures to ask for; those are in `authsec_core.testing`.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option with which an environment says that every import must succeed."""
    parser.addoption(
        "--no-skipped-modules",
        action="store_true",
        help="fail where a module is skipped for want of an import: for environments that must have it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give property tests all the time they need: a busy machine is no failure."""
    if config.pluginmanager.has_plugin("hypothesispytest"):
        from hypothesis import HealthCheck, settings

        slow = [HealthCheck.too_slow]
        settings.register_profile("authsec", settings.default, deadline=None, suppress_health_check=slow)
        settings.load_profile("authsec")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure, where that was asked for."""
    report = yield
    if report.skipped and collector.config.getoption("no_skipped_modules"):
        report.outcome = "failed"
    return report


_SETTINGS = ("AUTHSEC_", "OPENAI_", "CREWAI_TOOLS_")
_NAMES = frozenset({"DOWNSTREAM_URL", "KUBERNETES_SERVICE_HOST", "NETRC", "SSLKEYLOGFILE"})
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what would send a test to a real authority, a real model or a proxy."""
    for name in tuple(os.environ):
        if name.startswith(_SETTINGS) or name in _NAMES or name.upper() in _PROXIES:
            monkeypatch.delenv(name)


class NetworkRefusedError(RuntimeError):
    """A test reached for the network. No OSError, or the code under test would take it for an outage."""


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


class _LoopbackOnly:
    """Stands in front of the socket calls that leave the machine, and remembers what it refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def _check(self, what: str, host: object) -> None:
        if not _is_loopback(host):
            self.refused.append(f"{what} {host!r}")
            raise NetworkRefusedError(f"tests stay on loopback: {self.refused[-1]} was refused")

    def connecting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(sock: socket.socket, *args: Any) -> Any:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                try:
                    self._check(original.__name__, args[-1][0])  # `sendto` may have flags before the address
                except NetworkRefusedError:
                    sock.close()  # else its ResourceWarning blames a later test
                    raise
            return original(sock, *args)

        return guarded

    def resolving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
            # RFC 6761 section 6.4: names under .invalid never resolve. Tests play a DNS failure with them.
            name = host.decode("ascii", "replace") if isinstance(host, bytes) else host  # asyncio passes bytes
            if isinstance(name, str) and name.rstrip(".").endswith(".invalid"):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            self._check(original.__name__, host)
            return original(host, *args, **kwargs)

        return guarded


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse connections and look-ups beyond loopback, and fail the test even where the code swallows the refusal."""
    guard = _LoopbackOnly()
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guard.connecting(getattr(socket.socket, name)))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, guard.resolving(getattr(socket, name)))
    yield
    if guard.refused:
        pytest.fail(f"the test reached for the network: {', '.join(guard.refused)}")
