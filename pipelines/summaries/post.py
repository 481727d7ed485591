"""Summaries by mail: what is due of a tenant goes to each confirmed recipient, once a period and revision."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlencode

from dashboards.reports.mail import render_mail, subject
from dashboards.reports.page import Page
from dashboards.reports.text import render_text
from kaimon.base.aws import AwsError
from kaimon.base.logs import get_logger
from kaimon.base.mail import MailError, send_mail
from kaimon.base.ses import reports
from kaimon.base.settings import MailSettings
from pipelines.summaries.day import newest_page
from pipelines.summaries.paper import pdf_or_none
from pipelines.summaries.period import Period
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts
from tenancy.database import Database
from tenancy.inviting import links_url
from tenancy.mails import Mail, claim, not_sent, sent
from tenancy.recipients import Recipient, recipients, record_bounce, unsubscribe_token
from tenancy.schedules import Schedule, due


def post(tables: TenantTables, schedule: Schedule, settings: MailSettings) -> Counts:
    """Send every summary that is due, and return how many mails were sent and how many were not taken.

    Raises:
        ValueError: a setting is missing without which nothing may be mailed.
    """
    links = links_url()
    counts = {"sent": 0, "not_taken": 0}
    people = recipients(tables.db, tables.tenant, "confirmed")
    for period, start in due(schedule, tables.db.clock()) if people else ():
        told = newest_page(tables, Period(period, start))
        if told is None or told.provisional:
            continue
        paper: bytes | None = None
        for person in people:
            mail = claim(tables.db, person, period, start, told.revision)
            if mail is None:
                continue
            paper = paper or pdf_or_none(told)
            message = compose(told, paper, person, mail, settings=settings, links=links)
            counts["sent" if _hand_over(tables, message, person, mail, settings) else "not_taken"] += 1
    return counts


def compose(
    told: Page, paper: bytes | None, person: Recipient, mail: Mail, *, settings: MailSettings, links: str
) -> EmailMessage:  # fmt: skip
    """Return the mail: text, HTML, and the PDF if there is one."""
    asked = {"recipient": person.recipient_id, "token": unsubscribe_token(person)}
    stop = f"{links}/unsubscribe?{urlencode(asked)}"
    message = EmailMessage()
    message["From"], message["To"] = settings.smtp_from, person.address
    message["Subject"], message["Message-ID"] = subject(told), mail.message_id
    message["Date"] = format_datetime(mail.changed_at)
    message["Auto-Submitted"] = "auto-generated"
    message["List-Unsubscribe"], message["List-Unsubscribe-Post"] = f"<{stop}>", "List-Unsubscribe=One-Click"
    message.set_content(render_text(told, stop))
    message.add_alternative(render_mail(told, stop), subtype="html")
    if paper is not None:
        name = f"kaimon-{told.tenant}-{told.short_name}-r{told.revision}.pdf"
        message.add_attachment(paper, maintype="application", subtype="pdf", filename=name)
    return message


def hear(db: Database, settings: MailSettings) -> int:
    """Mail no more whom SES reports as gone or complaining; return how many reports were about recipients of ours.

    A queue that cannot be read is logged: its reports wait there, and what is due goes out.
    """
    heard, log = 0, get_logger(__name__)
    try:
        for report in reports(settings):
            try:
                record_bounce(db, report.recipient_id, permanent=report.permanent)
            except ValueError:
                continue  # erased since
            heard += 1
    except AwsError as error:
        log.warning("mail_reports_not_read", error=str(error))
    if heard:
        log.info("mail_reports_heard", reports=heard)
    return heard


def _hand_over(
    tables: TenantTables, message: EmailMessage, person: Recipient, mail: Mail, settings: MailSettings
) -> bool:  # fmt: skip
    try:
        send_mail(message, settings, person.recipient_id)
    except MailError as error:
        get_logger(__name__).warning("mail_not_taken", tenant=tables.tenant, recipient=person.recipient_id,
                                     attempt=mail.attempts, error=str(error))  # fmt: skip
        not_sent(tables.db, mail, "refused for good" if error.permanent else "not taken", permanent=error.permanent)
        if error.address:
            record_bounce(tables.db, person.recipient_id, permanent=True)
        return False
    sent(tables.db, mail)
    return True
