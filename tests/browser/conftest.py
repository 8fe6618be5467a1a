"""Headless Chromium, the one that the machine has, and a gateway for it to look at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

_ROOT = Path(__file__).resolve().parents[2]
# The gateway is a package among the examples, and what its tests share is beside them.
sys.path[:0] = [str(_ROOT / "examples"), str(_ROOT / "tests" / "shared")]

from gateway_world import Open, World, gateways, worlds  # noqa: E402 -- found on the path that was set above

_CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_PATIENCE = 60_000  # milliseconds, as Playwright counts; a page that is fine on a busy machine takes seconds

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. That it is missing is a failure: a page that nobody looked at is not tested."""
    if not os.access(_CHROMIUM, os.X_OK):
        pytest.fail(f"{_CHROMIUM} is missing: .ci/install-chromium installs it", pytrace=False)
    # A browser's sandbox does not work for root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=[*_ARGUMENTS, *sandbox])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An authority, and callers of each role."""
    with worlds() as world:
        yield world


@pytest.fixture
def gateway(world: World, tmp_path: Path) -> Iterator[Open]:
    """Return a function that serves a gateway whose model plays these turns."""
    with gateways(world, tmp_path) as serve:
        yield serve


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens a gateway's page; in the end nothing may have gone wrong in it, or gone elsewhere.

    Refusals are no errors of the page: Chromium reports each answer of 400 and above, and those are left out.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(base_url: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if _is_wrong(message) else None)
        page.on("request", lambda request: None if request.url.startswith(base_url) else wrong.append(request.url))
        page.goto(base_url)
        return page

    yield opened
    found = [*wrong]  # closing it breaks off what is under way, which is none of the page's doing
    for context in contexts:
        context.close()
    assert found == []


def _is_wrong(message: Any) -> bool:
    refused = message.text.startswith("Failed to load resource: the server responded with a status of ")
    return message.type in {"error", "warning"} and not refused
