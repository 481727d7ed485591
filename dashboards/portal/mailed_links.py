"""The pages that mailed summaries link to: confirm and stop, for who has no login.

The code or token in the address is the proof, so there is neither a session nor a token of a form. A GET shows a button
and changes nothing: programs that look at mail follow links. The POST that a mail program makes by itself (RFC 8058)
gets the same answer as the button, without a redirect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dashboards.portal.call import html
from kaimon.base.acting import Actor, acting_as
from kaimon.base.problems import Problem
from tenancy.database import Database
from tenancy.recipients import confirm, unsubscribe


def _confirm(db: Database, query: Mapping[str, str]) -> bool:
    return confirm(db, query.get("code", "")) is not None


def _unsubscribe(db: Database, query: Mapping[str, str]) -> bool:
    return unsubscribe(db, query.get("recipient", ""), query.get("token", ""))


PAGES: Final[dict[str, tuple[Callable[[Database, Mapping[str, str]], bool], dict[str, str]]]] = {
    "/report/confirm": (
        _confirm,
        {
            "title": "Summaries by mail",
            "asked": "Shall summaries of file activity be mailed to your address?",
            "button": "Yes, mail them",
            "done": "Confirmed. Each mail has a link that stops them.",
        },
    ),
    "/report/unsubscribe": (
        _unsubscribe,
        {
            "title": "Stop these mails",
            "asked": "Shall no more summaries be mailed to your address?",
            "button": "Stop them",
            "done": "Stopped. No more summaries are mailed to your address.",
        },
    ),
}
"""By path, below `KAIMON_REPORT_URL`: what a POST does, and the words around it."""


def answer(db: Database, request: Request) -> Response:
    """Answer one of `PAGES`: ask on GET, act on POST.

    Raises:
        Problem: 404, nothing of ours is in the link, or it is too old.
    """
    act, words = PAGES[request.scope["path"]]
    if request.method == "GET":
        return html("mailed_link.html", words=words, done=False)
    origin = request.client.host if request.client else None
    with acting_as(Actor("recipient", origin, request.state.request_id)):
        done = act(db, request.query_params)
    if not done:
        raise Problem(404, "link_unknown", "This link does not hold", "It was cut short, or it is too old.")
    return html("mailed_link.html", words=words, done=True)
