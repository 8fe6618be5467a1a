"""Whether the guard that keeps every test on loopback holds, since all other tests lean on it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[1]


LEAVING = (
    "socket.create_connection(('192.0.2.1', 80), 0.1)",
    "socket.create_connection(('example.com', 80), 0.1)",
    "socket.create_connection(('2001:db8::1', 80), 0.1)",
    "socket.socket().connect_ex(('192.0.2.1', 80))",
    "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', 0, ('192.0.2.1', 53))",
    "socket.gethostbyname('example.com')",
    "asyncio.run(asyncio.open_connection('example.com', 80))",
)


def _run_under_the_guard(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(body)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", f"--confcutdir={pytester.path}")


def test_a_test_that_leaves_the_machine_fails(pytester: pytest.Pytester) -> None:
    """Connections and look-ups beyond loopback are refused before a packet is sent, swallowed or not."""
    result = _run_under_the_guard(
        pytester,
        f"""
        import asyncio, contextlib, socket
        import pytest
        leaving = pytest.mark.parametrize("call", {LEAVING!r})
        @leaving
        def test_open(call): eval(call)
        @leaving
        def test_swallowed(call):
            with contextlib.suppress(Exception): eval(call)
        """,
    )
    # `open` fails in the call and again after it; `swallowed` passes its call.
    result.assert_outcomes(failed=len(LEAVING), passed=len(LEAVING), errors=2 * len(LEAVING))


def test_loopback_is_open() -> None:
    """Servers on loopback can be reached by address and by name, so that tests can use real HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), 5).close()

        async def connect() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()

        asyncio.run(connect())


def test_names_that_never_resolve_fail_as_in_dns() -> None:
    """A name under `.invalid` plays a DNS failure, without asking anyone."""
    with pytest.raises(socket.gaierror):
        socket.create_connection(("authority.invalid", 443))


def test_settings_of_the_developer_are_hidden(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the shell's authsec settings, model keys or proxies."""
    names = (
        "AUTHSEC_BASE_URL",
        "OPENAI_API_KEY",
        "DOWNSTREAM_URL",
        "KUBERNETES_SERVICE_HOST",
        "HTTPS_PROXY",
        "no_proxy",
    )
    for name in names:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    result = _run_under_the_guard(pytester, f"import os\ndef test(): assert not set({names!r}) & set(os.environ)")
    result.assert_outcomes(passed=1)
    assert "HTTPS_PROXY" in os.environ
