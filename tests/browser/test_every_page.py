"""Every page, wide and on a phone, light and dark: who cannot see it reads it, it is light, whole, and safe."""

from __future__ import annotations

import gzip
from typing import Any
from urllib.parse import urlsplit

import pytest

from dashboards.portal.pages import ROUTES
from tests.browser.world import AXE, EMPTY, NO_PAGES, NOTHING, PHONE, WIDE, World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GRAVE = {"serious", "critical"}
MOST_BYTES = 100_000
MOST_REQUESTS = 3
"""The page, its style, its script."""


def test_every_page_is_looked_at(world: World) -> None:
    pages = {route.path or "overview" for route in ROUTES if route.method == "GET"}
    assert pages > NO_PAGES
    assert pages - NO_PAGES <= set(world.every())
    without = {name for name, asked in world.ids[EMPTY].items() if asked is NOTHING}
    assert {f"empty {name}" for name in pages - NO_PAGES - without} <= set(world.every())


def test_axe_finds_nothing_grave_on_any_page_in_any_size_or_colours(world: World) -> None:
    if not AXE.is_file():
        pytest.skip("needs tests/web/node_modules/axe-core (script/bootstrap test)")
    # The policy lets no script in that is not the portal's own, so it is off here and nowhere else.
    context = world.context(bypass_csp=True)
    context.add_init_script(path=AXE)
    found = []
    for name, page in world.visit(context):
        for size, viewport in (("wide", WIDE), ("phone", PHONE)):
            page.set_viewport_size(viewport)
            for colours in ("light", "dark"):
                page.emulate_media(color_scheme=colours)
                # Colours change nothing but colours.
                chosen = {} if colours == "light" else {"runOnly": ["color-contrast", "link-in-text-block"]}
                said = page.evaluate("chosen => axe.run(document, {...chosen, resultTypes: ['violations']})", chosen)
                found += [
                    (name, size, colours, one["id"], one["nodes"][0]["html"][:160], one["nodes"][0]["failureSummary"])
                    for one in said["violations"]
                    if one["impact"] in GRAVE
                ]
    assert not found, "\n".join(map(str, found))


def test_every_page_is_small_asks_for_little_and_for_nothing_elsewhere(world: World) -> None:
    """The bytes are those of the first screen as it crosses the wire, with an empty cache, headers and all."""
    figures: dict[str, tuple[int, int, int]] = {}
    for name in world.every():
        context = world.context()
        if name == "welcome":
            context.clear_cookies()
        page = context.new_page()
        wire = context.new_cdp_session(page)
        wire.send("Network.enable")
        asked: list[str] = []
        sizes: list[int] = []
        wire.on("Network.requestWillBeSent", lambda told, asked=asked: asked.append(told["request"]["url"]))
        wire.on("Network.loadingFinished", lambda told, sizes=sizes: sizes.append(int(told["encodedDataLength"])))
        answer = page.goto(world.every()[name], wait_until="load")
        wire.send("Network.disable")  # what it answers stands behind all that was told of before
        body = answer.body()
        asked = [one for one in asked if not one.startswith("data:")]  # the browser's own icons in fields of dates
        figures[name] = (sum(sizes), len(gzip.compress(body)), len(asked))
        assert {urlsplit(one).netloc for one in asked} == {urlsplit(world.running.url).netloc}, (name, asked)
        context.close()
    world.contexts.clear()
    for name, (wire_bytes, packed, requests) in sorted(figures.items(), key=lambda one: -one[1][0]):
        print(f"{name:28} {wire_bytes:7,} bytes on the wire  (page gzipped {packed:6,})  {requests} requests")
    assert all(0 < one[0] < MOST_BYTES and one[2] <= MOST_REQUESTS for one in figures.values()), figures


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_page_is_wider_than_the_window_breaks_its_policy_or_leans_on_a_script(
    world: World, viewport: dict[str, int]
) -> None:
    with_scripts, without = world.context(viewport), world.context(viewport, java_script_enabled=False)
    said: list[str] = []
    with_scripts.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    with_scripts.on("weberror", lambda error: said.append(str(error.error)))
    found, shown = [], {}
    for name, page in world.visit(with_scripts):
        overflow = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        if overflow[0] > overflow[1]:
            found.append((name, overflow, page.evaluate(_WIDEST)))
        shown[name] = _seen(page)
    assert not found, "\n".join(map(str, found))
    # A 404 is told on the console by the browser itself.
    assert not [one for one in said if "404" not in one], said
    for name, page in world.visit(without):
        assert _seen(page) == shown[name], name


_WIDEST = """() => [...document.querySelectorAll('body *')]
  .filter(one => one.getBoundingClientRect().right > innerWidth && !one.closest('.wide, pre'))
  .map(one => `${one.tagName}.${one.className} ${Math.round(one.getBoundingClientRect().right)}`).slice(0, 5)"""


def _seen(page: Any) -> tuple[str, int, int]:
    """What somebody sees of a page: its heading, its tables' rows, its links and fields."""
    heading = page.get_by_role("heading", level=1).first.inner_text()
    assert heading.strip()
    return heading, page.locator("tr").count(), page.locator("a:visible, input:visible, h2:visible").count()
