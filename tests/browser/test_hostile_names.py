"""Names that an attacker chooses, on every page: no script runs, nothing is asked of anybody, no page is broken."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from kaimon.base.escape import escape
from tenancy.members import invite
from tenancy.tenants import create_tenant
from tests.browser.test_every_page import MOST_BYTES
from tests.browser.world import ADMIN, NO_PAGES, PHONE, WIDE, World, furnish
from tests.dashboards.portal import filled

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TENANT: Final = "hostile"
KINDS: Final = (
    "<script>window.owned='{n}'</script>",
    '"><img src=x onerror="window.owned=\'{n}\'">',
    "'><svg onload=\"window.owned='{n}'\"></svg>",
    "</textarea></title></style><script>window.owned='{n}'</script>",
    '" autofocus onfocus="window.owned=\'{n}\'" x="',
    "javascript:window.owned='{n}'",
    "{{{{7*7}}}}{{% raw %}}${{7*7}}<%= {n} %>#{{7*7}}",
    "=cmd|'/C calc'!A{n}",
    "@SUM(1+{n})*cmd",
    "invoice{n}\u202egpj.exe\u2066\u200f",
    "pass\u200bword\u200d\u2060{n}\ufeff\u00ad",
    "two\nlines\r\n{n}\x1b[31m\x07\x00",
    "<iframe srcdoc=\"<script>parent.owned='{n}'</script>\"></iframe>",
    "<base href=https://elsewhere.example/><link rel=stylesheet href=//elsewhere.example/{n}.css>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.example/{n}'>",
    "<form action=https://elsewhere.example/{n}><button>Log in</button>",
    "e" + "\u0301\u0489" * 40 + "{n}",
    "\u202e" + "\ufdfd" * 30 + "{n}",
    "W" * 200 + "{n}",
    "/srv/" + "very-long\u00a0name/" * 340 + "{n}",
)
"""Each in ten variants: markup, handlers, templates, formulas, bidi, zero width, line breaks, piles of marks, 4 KB."""
NAMES: Final = [escape(kind.format(n=number).replace("\x00", "").encode()) for number in range(10) for kind in KINDS]


def test_no_hostile_name_runs_asks_for_anything_or_pushes_a_page_aside(world: World) -> None:
    assert len(set(NAMES)) == 200
    create_tenant(world.running.db, TENANT)
    invite(world.running.db, TENANT, ADMIN, "admin")
    assert world.running.browser().log_in(ADMIN).status_code == 303  # who was invited joins at a login
    furnish(world, TENANT, NAMES)
    context = world.context()
    _require_that_they_would_run(context)
    said: list[str] = []
    asked: set[str] = set()
    context.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    context.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    pages = world.addresses(TENANT)
    for name in NO_PAGES:
        del pages[name]
    for number, name in enumerate(NAMES[:20]):
        fields = dict.fromkeys(("hostname", "path", "file", "process", "user"), name[:300])
        pages[f"asked {number}"] = f"{world.running.url}/t/{TENANT}/activity?{urlencode({'day': filled.DAY, **fields})}"
    events: list[str] = []
    longest = 0
    seen = set()
    for name, page in world.visit(context, pages):
        _require_calm(name, page)
        if name == "activity":
            for _ in range(2):
                longest = max(longest, len(page.content().encode()))
                seen.update(page.locator("td.path bdi").all_inner_texts())
                events += [str(one.get_attribute("href")) for one in page.locator("td.t a").all()]
                page.get_by_role("link", name="Older rows").click()
                page.wait_for_url("**after=**")
                _require_calm(name, page)
    print(f"Activity with 100 rows of hostile names: {longest:,} bytes")
    assert longest < MOST_BYTES
    # The cut in the middle hides the number of the longest ones.
    assert len(seen) > 150
    one_of_each = events[: 2 * len(KINDS) : 2]
    for name, page in world.visit(context, {one: urljoin(world.running.url, one) for one in one_of_each}):
        _require_calm(name, page)
    assert not said, said
    assert asked <= {urlsplit(world.running.url).netloc, ""}, asked


def _require_that_they_would_run(context: Any) -> None:
    page = context.new_page()
    page.set_content("".join(f"<p>{name}</p>" for name in NAMES[:3]))
    page.wait_for_function("window.owned !== undefined")
    page.close()


def _require_calm(name: str, page: Any) -> None:
    for viewport in (WIDE, PHONE):
        page.set_viewport_size(viewport)
        told = page.evaluate(
            "[document.documentElement.scrollWidth - window.innerWidth, window.owned === undefined, document.title]"
        )
        assert told[0] <= 0, (name, viewport, told)
        assert told[1], name
        assert "kaimon" in told[2], (name, told)
    assert (
        page.locator("main script, main iframe, main img, main base, main meta, main link").evaluate_all(
            "found => found.map(one => one.outerHTML).filter(one => one !== OURS)".replace("OURS", repr(_OURS))
        )
        == []
    ), name


_OURS: Final = '<script src="/portal.js" defer=""></script>'
"""The one script that stands within a page."""
