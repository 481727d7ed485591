"""Inviting somebody to be mailed summaries: a mail with a link, and nothing more before its reader has used that."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlencode

from kaimon.base.mail import MailError, send_mail
from kaimon.base.settings import MailSettings, ReportSettings
from tenancy.database import Database
from tenancy.recipients import Recipient, add_recipient, remove_recipient


def invite(db: Database, tenant: str, address: str, settings: MailSettings) -> Recipient:
    """Keep an address and mail it the link by which whoever reads it may confirm; nothing else goes there before.

    Raises:
        ValueError: as `add_recipient` does, or a setting is missing.
        kaimon.base.mail.MailError: the mail was not taken; the recipient is removed again.
    """
    links = links_url()
    person, code = add_recipient(db, tenant, address)
    message = EmailMessage()
    message["From"], message["To"] = settings.smtp_from, address
    message["Subject"], message["Auto-Submitted"] = f"kaimon {tenant}: confirm these mails", "auto-generated"
    message["Date"] = format_datetime(db.clock())
    message.set_content(
        f"Somebody asked that summaries of {tenant}'s file activity be mailed to this address.\n\n"
        f"To have them, confirm within 7 days:\n{links}/confirm?{urlencode({'code': code})}\n\n"
        "If you do nothing, nothing more comes.\n"
    )
    try:
        send_mail(message, settings)
    except MailError:
        remove_recipient(db, tenant, person.recipient_id)
        raise
    return person


def links_url() -> str:
    """Return the address below which `confirm` and `unsubscribe` are.

    Raises:
        ValueError: it is not set.
    """
    url = ReportSettings().report_url
    if url is None:
        raise ValueError("KAIMON_REPORT_URL is not set: nobody is mailed without a way to stop it")
    return url.rstrip("/")
