"""The gateway's page, in a browser: what each caller sees, and what cannot happen in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_world import PATIENCE, Open, Place, World
from playwright.sync_api import Page, expect

from authsec_core.testing import call

OpenPage = Callable[..., Page]
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'


def signed_in(open_page: OpenPage, place: Place, token: str, **options: Any) -> Page:
    """Return the page after this token was pasted."""
    page = open_page(str(place.http.base_url), **options)
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Use this token").click()
    expect(page.get_by_role("button", name="Forget this token")).to_be_visible()
    return page


def ask(page: Page, message: str) -> None:
    """Type a message, and send it."""
    page.get_by_label("Message", exact=True).fill(message)
    page.get_by_role("button", name="Send").click()


def reload_policy(page: Page) -> None:
    """Press the button for it, which is not the suggestion to ask the agent."""
    page.get_by_role("region", name="Policy").get_by_role("button").click()


def last(page: Page) -> Any:
    """Return the latest entry of the conversation."""
    return page.get_by_role("log").locator("li").last


def test_it_loads(open_page: OpenPage, gateway: Open) -> None:
    """The page loads without an error and without asking anybody else; it says what to do first."""
    page = open_page(str(gateway().http.base_url))
    expect(page).to_have_title("Agent gateway")
    expect(page.get_by_role("heading", level=1)).to_have_text("Agent gateway")
    ask(page, "Hello")
    expect(last(page)).to_contain_text("Give a token first.")


@pytest.mark.parametrize("role", ["agent", "admin"])
def test_who_may_respond_talks_to_the_agent(open_page: OpenPage, gateway: Open, world: World, role: str) -> None:
    """The answer and the tools that it took are shown, and the caller's own orders beside it."""
    place = gateway()
    page = signed_in(open_page, place, world.token(role))
    expect(page.locator("#badge")).to_have_text(role)
    ask(page, "Show my orders")
    expect(last(page)).to_contain_text("You have 2 orders.")
    expect(last(page)).to_contain_text("used my_orders")
    page.get_by_role("button", name="Refund order").click()
    expect(last(page)).to_contain_text("is refunded")
    expect(page.locator("#orders li").first).to_contain_text("refunded")
    ask(page, "What do you remember?")
    expect(last(page)).to_contain_text("Show my orders")
    page.get_by_role("button", name="New conversation").click()
    ask(page, "What do you remember?")
    expect(last(page)).to_contain_text("The first thing you said here was: What do you remember?")


def test_a_viewer_reads_and_is_told_that_it_cannot_respond(open_page: OpenPage, gateway: Open, world: World) -> None:
    """A refusal is shown in words, where it happened."""
    page = signed_in(open_page, gateway(), world.token("viewer"))
    expect(page.locator("#orders li")).to_have_count(2)
    ask(page, "Show my orders")
    expect(last(page)).to_contain_text("Your token does not allow this (403).")
    reload_policy(page)
    expect(page.locator("#reload-note")).to_contain_text("Your token does not allow this (403).")


def test_an_admin_reloads_the_policy(open_page: OpenPage, gateway: Open, world: World) -> None:
    """A good policy is taken, and of a broken one the admin is told what is wrong."""
    place = gateway()
    page = signed_in(open_page, place, world.token("admin"))
    reload_policy(page)
    expect(page.locator("#reload-note")).to_have_text("The policy was read anew.")
    place.policy.write_text("version: 2\n", encoding="utf-8")
    reload_policy(page)
    expect(page.locator("#reload-note")).to_contain_text("The policy stays as it was")


@pytest.mark.parametrize(("token", "words"), [("not-a-token", "(401)"), ("two words", "That is not a token.")])
def test_a_wrong_token_is_refused_in_words(open_page: OpenPage, gateway: Open, token: str, words: str) -> None:
    """Who pastes something else is told so, and stays a stranger."""
    page = open_page(str(gateway().http.base_url))
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Use this token").click()
    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.locator("#badge")).to_be_hidden()


def test_a_token_file_is_as_good_as_pasting(open_page: OpenPage, gateway: Open, world: World, tmp_path: Path) -> None:
    """A file for `curl -H @FILE` can be chosen."""
    file = tmp_path / "agent.header"
    file.write_text(f"Authorization: Bearer {world.token('agent')}\n", encoding="utf-8")
    page = open_page(str(gateway().http.base_url))
    page.get_by_label("Choose a file").set_input_files(file)
    expect(page.locator("#badge")).to_have_text("agent")


def test_the_answer_comes_in_pieces_and_can_be_stopped(open_page: OpenPage, gateway: Open, world: World) -> None:
    """What is there is shown while the rest is awaited, and Stop ends the turn at the gateway too."""
    go_on = threading.Event()

    def slow(_body: Any) -> str:
        go_on.wait(PATIENCE)
        return "At last."

    place = gateway(call("my_orders"), slow)
    page = signed_in(open_page, place, world.token("agent"))
    try:
        ask(page, "Show my orders")
        expect(last(page)).to_contain_text("used my_orders")
        expect(last(page)).not_to_contain_text("At last.")
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
        page.get_by_role("button", name="Stop").click()
        expect(last(page)).to_contain_text("Stopped.")
        assert place.sink.wait_for("run.ended").outcome == "cancelled"
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
    finally:
        go_on.set()


def test_a_revoked_token_ends_what_is_under_way(open_page: OpenPage, gateway: Open, world: World) -> None:
    """A caller who is revoked while the agent works reads why it stopped, and is refused afterwards."""
    agent, go_on = world.onboard("agent"), threading.Event()

    def slow(_body: Any) -> str:
        go_on.wait(PATIENCE)
        return "Too late."

    place = gateway(slow)
    page = signed_in(open_page, place, world.fetch(agent))
    try:
        ask(page, "Show my orders")
        place.model.wait_for_requests(1)
        world.revoke(agent)
        expect(last(page)).to_contain_text("The token is not good, or not any more.")
        ask(page, "And now?")
        expect(last(page)).to_contain_text("The gateway does not know you (401).")
    finally:
        go_on.set()


def test_a_model_that_fails_is_told_in_words(open_page: OpenPage, gateway: Open, world: World) -> None:
    """The page says that the model is the trouble."""
    page = signed_in(open_page, gateway("The only turn."), world.token("agent"))
    ask(page, "One")
    expect(last(page)).to_contain_text("The only turn.")
    ask(page, "Two")
    expect(last(page)).to_contain_text("The model cannot be asked right now")


def test_markup_is_text(open_page: OpenPage, gateway: Open, world: World) -> None:
    """What the model answers and what the user types is shown as it stands, and runs nothing."""
    page = signed_in(open_page, gateway(HOSTILE), world.token("agent"))
    ask(page, HOSTILE)
    expect(last(page)).to_contain_text(HOSTILE)
    expect(page.get_by_role("log").locator("li").first).to_contain_text(HOSTILE)
    assert page.get_by_role("log").locator("img, script").count() == 0
    assert page.evaluate("window.hacked") is None


def test_the_token_is_kept_nowhere(open_page: OpenPage, gateway: Open, world: World) -> None:
    """It is in no storage, no cookie, no address and no attribute; after a reload it has to be given again."""
    token = world.token("agent")
    page = signed_in(open_page, gateway(), token)
    assert page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])") == '[{},{},""]'
    assert page.context.cookies() == []
    assert token not in page.url + page.content()
    assert page.get_by_label("Access token").input_value() == ""
    page.reload()
    expect(page.locator("#badge")).to_be_hidden()
    page.get_by_role("button", name="Send").wait_for()


def test_keyboard_alone_will_do(open_page: OpenPage, gateway: Open, world: World) -> None:
    """Everything can be reached with Tab and done with Enter, and it can be seen where one is."""
    page = open_page(str(gateway().http.base_url))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the message field")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Access token")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.insert_text(world.token("agent"))
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("Show my orders")
    page.keyboard.press("Enter")
    expect(last(page)).to_contain_text("You have 2 orders.")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"send", "anew", "reload", "forget", "log"} <= reached


def test_everything_has_a_name(open_page: OpenPage, gateway: Open, world: World) -> None:
    """Each control and each region has a name that can be read out, and no id is there twice."""
    page = signed_in(open_page, gateway(), world.token("admin"))
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, button, section, ol")].filter((one) => {
          const labelled = one.getAttribute("aria-labelledby");
          const name = one.getAttribute("aria-label") || (labelled && document.getElementById(labelled).textContent)
            || (one.labels && one.labels[0] && one.labels[0].textContent)
            || (one.tagName === "BUTTON" && one.textContent);
          return !(name && name.trim());
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate("document.documentElement.lang") == "en"


# The lowest contrast of all text that can be seen with what is behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const ground = rgb(getComputedStyle(one).backgroundColor);
      if (ground.length === 3 || ground[3] > 0) return ground;
    }
    return [255, 255, 255];
  };
  let least = [21, ""];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility() || one.disabled) continue;
    const pair = [light(rgb(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < least[0]) least = [ratio, one.outerHTML.slice(0, 120)];
  }
  return least;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(open_page: OpenPage, gateway: Open, world: World, scheme: str) -> None:
    """By day and by night all text stands out from what is behind it."""
    page = signed_in(open_page, gateway("Hello.", "One more"), world.token("agent"), color_scheme=scheme)
    ask(page, "Hello")
    expect(last(page)).to_contain_text("Hello.")
    reload_policy(page)
    expect(page.locator("#reload-note")).to_contain_text("(403)")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(ground) < 80) == (scheme == "dark")


def test_it_fits_a_narrow_screen(open_page: OpenPage, gateway: Open, world: World) -> None:
    """On 320 pixels nothing has to be scrolled sideways, whatever the model says."""
    place = gateway("A" * 300, "B")
    page = signed_in(open_page, place, world.token("agent"), viewport={"width": 320, "height": 640})
    ask(page, "https://example.org/" + "a" * 200)
    expect(last(page)).to_contain_text("AAA")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
