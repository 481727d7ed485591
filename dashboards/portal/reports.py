"""The archive of summaries: what was told of each day and week, by whom, on which numbers, and to whom it goes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl
from starlette.responses import Response

from dashboards.portal.call import Call, Route
from dashboards.portal.scope import TenantScope
from kaimon.base.aws import AwsError
from kaimon.base.logs import get_logger
from kaimon.base.mail import MailError
from kaimon.base.problems import Problem
from kaimon.base.settings import MailSettings
from lake.reads import scan
from lake.settings import LakeSettings
from lake.stores import MissingError, open_store
from tenancy.database import Database
from tenancy.inviting import invite, links_url
from tenancy.recipients import Recipient, recipients, remove_recipient, require_address
from tenancy.schedules import Schedule, schedule_of, set_schedule

SHOWN: Final = 200
"""Revisions that the archive lists; older ones are in the tables."""
FORMS: Final = {"html": "text/html; charset=utf-8", "pdf": "application/pdf", "txt": "text/plain; charset=utf-8"}
_STYLE: Final = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True)
class Report:
    """One revision of a period's summary."""

    kind: str
    start: date
    revision: int


def archive_of(scope: TenantScope, lake: LakeSettings) -> list[dict[str, Any]]:
    """Return the tenant's newest summaries, each revision by itself: rows of `summaries` without their documents."""
    columns = ("period", "period_start", "revision", "writer", "headline", "made_at")
    frame = scan(scope.tenant_id, "summaries", settings=lake).select(columns)
    # A week stands above the day that it ends with.
    last = pl.col("period_start") + pl.when(pl.col("period") == "week").then(pl.duration(days=6)).otherwise(
        pl.duration(days=0)
    )
    ordered = frame.sort(last, "period", "revision", descending=True)
    return ordered.head(SHOWN).collect().to_dicts()


def facts_of(scope: TenantScope, wanted: Report, lake: LakeSettings) -> dict[str, Any] | None:
    """Return the facts document that a revision rests on, None if there is no such revision."""
    start, mine = wanted.start, pl.col("period") == wanted.kind
    told = scan(scope.tenant_id, "summaries", start, start, lake).filter(mine, pl.col("revision") == wanted.revision)
    digests = told.select("facts_digest").collect()["facts_digest"]
    if digests.is_empty():
        return None
    facts = scan(scope.tenant_id, "facts", start, start, lake).filter(mine, pl.col("digest") == digests[0]).head(1)
    documents = facts.select("document").collect()["document"]
    return None if documents.is_empty() else dict(json.loads(documents[0]))


def file_of(scope: TenantScope, wanted: Report, form: str, lake: LakeSettings) -> bytes | None:
    """Return what was delivered of a revision in one of `FORMS`, None if it is not there."""
    key = f"{scope.tenant_id}/{wanted.kind}/{wanted.start.isoformat()}-r{wanted.revision}.{form}"
    try:
        return open_store("outbox", lake).get(key)
    except MissingError:
        return None


def recipients_of(db: Database, scope: TenantScope) -> list[Recipient]:
    """Return whom the tenant's summaries are mailed to, or wait for."""
    return [one for one in recipients(db, scope.tenant_id) if one.state in {"pending", "confirmed", "bounced"}]


def reports(call: Call) -> Response:
    """List what was told, and how it is mailed."""
    return call.page(
        "reports.html",
        rows=archive_of(call.scope, call.lake),
        schedule=schedule_of(call.db, call.scope.tenant_id),
        recipients=recipients_of(call.db, call.scope),
    )


def evidence(call: Call) -> Response:
    """Show each number that a summary rests on, with the statement that gives it again."""
    wanted = _wanted(call)
    facts = facts_of(call.scope, wanted, call.lake)
    if facts is None:
        raise Problem(404, "not_found", "Not found")
    return call.page("facts.html", wanted=wanted, facts=facts)


def file(call: Call) -> Response:
    """Hand out a summary as it was delivered."""
    wanted, form = _wanted(call), call.query.get("form", "html")
    if form not in FORMS:
        raise Problem(404, "not_found", "Not found", "Ask for html, pdf or txt.")
    body = file_of(call.scope, wanted, form, call.lake)
    if body is None:
        raise Problem(404, "not_found", "Not found", "It is not in the outbox of this portal.")
    answer = Response(body, media_type=FORMS[form])
    if form == "html":
        # The page brings its own style; nothing else in it may act, whatever names it holds.
        styles = " ".join(f"'sha256-{_digest(style)}'" for style in _STYLE.findall(body)) or "'none'"
        answer.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src {styles}; sandbox; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
    else:
        name = f"kaimon-{call.scope.tenant_id}-{wanted.kind}-{wanted.start}-r{wanted.revision}.{form}"
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def schedule(call: Call) -> Response:
    """Say when summaries are mailed."""
    asked = call.form
    wanted = Schedule(
        call.scope.tenant_id,
        daily="daily" in asked,
        weekly="weekly" in asked,
        time_zone=asked.get("time_zone", "").strip(),
        hour=int(asked.get("hour") or 7),
    )
    set_schedule(call.db, wanted)
    return call.to("reports")


def add(call: Call) -> Response:
    """Invite an address: its reader is mailed a link, and gets reports once they have confirmed."""
    address = call.form.get("address", "").strip()
    require_address(address)
    try:
        links_url()
    except ValueError as error:
        raise Problem(503, "no_mail", "Nothing is mailed here", "This installation is not set up for mail.") from error
    try:
        invite(call.db, call.scope.tenant_id, address, MailSettings(home=call.lake.home))
    except (MailError, AwsError) as error:
        get_logger(__name__).warning("mail_not_taken", tenant=call.scope.tenant_id, error=str(error))
        raise Problem(
            503, "mail_not_taken", "Not mailed", "The mail with the link was not taken. Nothing has changed; try again."
        ) from error
    return call.to("reports")


def remove(call: Call) -> Response:
    """Mail somebody no more."""
    remove_recipient(call.db, call.scope.tenant_id, call.form.get("recipient", ""))
    return call.to("reports")


def _digest(style: bytes) -> str:
    return base64.b64encode(hashlib.sha256(style).digest()).decode()


def _wanted(call: Call) -> Report:
    try:
        kind, start = call.query["period"], date.fromisoformat(call.query["start"])
        revision = int(call.query["revision"])
    except (KeyError, ValueError) as error:
        raise _unknown() from error
    if kind not in {"day", "week"} or not 0 < revision < 1_000_000:
        raise _unknown()
    return Report(kind, start, revision)


def _unknown() -> Problem:
    return Problem(404, "not_found", "Not found", "Follow a link of the archive.")


ROUTES: Final = (
    Route("GET", "reports", "member", reports),
    Route("GET", "reports/facts", "member", evidence),
    Route("GET", "reports/file", "member", file),
    Route("POST", "reports/schedule", "admin", schedule),
    Route("POST", "reports/add", "admin", add),
    Route("POST", "reports/remove", "admin", remove),
)
