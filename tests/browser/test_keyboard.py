"""Every page by the keyboard alone: past the menu in one step, and always to be seen where one is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.world import WIDE, World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ENOUGH = 60
"""Steps on a page; beyond the menu and a form there are rows, which are alike."""
_WHERE = """() => {
  const one = document.activeElement, box = one.getBoundingClientRect(), style = getComputedStyle(one);
  if (one === document.body) return null;
  return {what: one.outerHTML.slice(0, 120), width: box.width, top: box.top, bottom: box.bottom, left: box.left,
    outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth), high: innerHeight, wide: innerWidth};
}"""


def test_on_every_page_the_first_step_leads_past_the_menu_and_each_step_is_seen(world: World) -> None:
    context = world.context(WIDE, reduced_motion="reduce")
    steps = 0
    for name, page in world.visit(context):
        if name == "reports/file":  # a document as it was mailed: it has neither menu nor script
            continue
        page.keyboard.press("Tab")
        _require_seen(name, first := page.evaluate(_WHERE))
        assert 'class="skip"' in first["what"], (name, first)
        page.keyboard.press("Enter")
        page.wait_for_function("location.hash === '#main'")
        for _ in range(ENOUGH):
            page.keyboard.press("Tab")
            here = page.evaluate(_WHERE)
            if here is None or 'class="skip"' in here["what"]:  # past the last, and round again
                break
            _require_seen(name, here)
            assert page.evaluate("document.activeElement.closest('nav, header') === null"), (name, here)
            steps += 1
    assert steps > 100


def _require_seen(name: str, here: dict[str, Any] | None) -> None:
    assert here is not None, name
    assert here["outline"] >= 2, (name, here)
    assert here["width"] > 0, (name, here)
    assert here["bottom"] > 0, (name, here)
    assert here["top"] < here["high"], (name, here)
    assert -1 < here["left"] < here["wide"], (name, here)


def test_one_key_copies_the_sql_or_the_command_of_what_is_shown(world: World) -> None:
    page = world.context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    page.goto(world.addresses("acme")["activity"])
    page.locator("details", has=page.locator("#sql")).locator("summary").press("Enter")
    for text in ("sql", "command"):
        page.locator(f"button[data-copy={text}]").press("Enter")
        page.locator(f"button[data-copy={text}]", has_text="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator(f"#{text}").input_value()
