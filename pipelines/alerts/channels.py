"""The two ways out: mail, and a signed webhook. Each takes what it is given, once, or says why not."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

import httpx

from kaimon.base.mail import send_mail
from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings, MailSettings
from pipelines.alerts.words import document, headline, headline_of_many, text, text_of_many
from pipelines.settings import AlertSettings
from tenancy.alerts import Notice

_TIMEOUT_S: Final = 10.0
_PREFIX: Final = "whsec_"
_SHORTEST_KEY: Final = 24


class ChannelError(Exception):
    """A notice was not taken; the message holds neither the address nor the secret."""


def name_of(notices: Sequence[Notice]) -> str:
    """Return their own name, the same however often the same are sent: a receiver knows by it what it has."""
    ids, state = [one.alert.alert_id for one in notices], notices[0].state
    if len(ids) == 1:
        return f"{ids[0]}.{state}"
    return f"alrs_{hashlib.sha256(' '.join(sorted(ids)).encode()).hexdigest()[:16]}.{state}"


def mail(notices: Sequence[Notice], settings: AlertSettings, now: datetime) -> None:
    """Mail notices of one kind and state to everybody who is to have them, in one mail.

    Raises:
        ChannelError: nobody is named.
        kaimon.base.mail.MailError: it was not taken.
    """
    server = MailSettings(home=settings.home)
    sender = server.smtp_from
    if sender is None or settings.alert_mail_to is None:
        raise ChannelError("KAIMON_SMTP_FROM and KAIMON_ALERT_MAIL_TO say from whom and to whom; one is not set")
    message = EmailMessage()
    message["From"] = sender
    message["To"] = settings.alert_mail_to
    notice = notices[0]
    message["Subject"] = headline(notice) if len(notices) == 1 else headline_of_many(notices)
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{name_of(notices)}@{sender.rpartition('@')[2].strip('>')}>"
    if notice.state == "cleared" and len(notices) == 1:
        message["In-Reply-To"] = message["Message-ID"].replace(".cleared@", ".raised@")
    message["Auto-Submitted"] = "auto-generated"
    address = settings.alert_runbook_url
    message.set_content(text(notice, address) if len(notices) == 1 else text_of_many(notices, address))
    send_mail(message, server)


def webhook(notices: Sequence[Notice], settings: AlertSettings, now: datetime) -> None:
    """Post the one notice, signed as https://www.standardwebhooks.com says; only 2xx is an answer, and no redirect is followed.

    Raises:
        ChannelError: it was not taken, or there is no key to sign it with.
    """  # noqa: E501 - an address
    if settings.alert_webhook_url is None:
        raise ChannelError("KAIMON_ALERT_WEBHOOK_URL is not set")
    (notice,) = notices
    body = json.dumps(document(notice, settings.alert_runbook_url), sort_keys=True).encode()
    headers = {"content-type": "application/json", **signed(name_of(notices), now, body, _key(settings))}
    trust = ssl.create_default_context(cafile=settings.alert_webhook_ca)
    try:
        with httpx.Client(verify=trust, timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            answer = client.post(settings.alert_webhook_url.get_secret_value(), content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ChannelError(f"the webhook: {type(error).__name__}") from None
    if not answer.is_success:
        raise ChannelError(f"the webhook answered {answer.status_code}")


def signed(name: str, now: datetime, body: bytes, key: bytes) -> dict[str, str]:
    """Return the three headers by which a receiver knows a body's name, age and sender."""
    moment = str(int(now.timestamp()))
    digest = hmac.new(key, b".".join((name.encode(), moment.encode(), body)), hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(settings: AlertSettings) -> bytes:
    if settings.alert_webhook_secret is None:
        raise ChannelError("KAIMON_ALERT_WEBHOOK_SECRET is not set: nothing is posted unsigned")
    secret = resolved(settings.alert_webhook_secret, AwsSettings(home=settings.home))
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or len(key) < _SHORTEST_KEY:
        raise ChannelError("KAIMON_ALERT_WEBHOOK_SECRET is not `whsec_` and at least 24 bytes as base64")
    return key


CHANNELS: Final[dict[str, Callable[[Sequence[Notice], AlertSettings, datetime], None]]] = {
    "mail": mail,
    "webhook": webhook,
}
TOGETHER: Final = frozenset({"mail"})
"""Channels that people read: many notices of one kind are one there."""
