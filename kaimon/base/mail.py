"""Mail: one message to one server or to Amazon SES, over TLS or not at all."""

from __future__ import annotations

import re
import smtplib
import ssl
from email.message import EmailMessage
from typing import Final

from kaimon.base.aws import AwsError
from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings, MailSettings

IMPLICIT_TLS_PORT: Final = 465
_TIMEOUT_S: Final = 15.0
_RULES: Final = re.compile(rb"5\.7\.\d")
"""By RFC 3463 the server's rules: that it does not relay for us, say, which is mended here and not by the recipient."""
_UNFIT: Final = frozenset({"MessageRejected", "BadRequestException"})
"""What SES says of a message that it will never take. Of an account that is paused or over its quota, it may yet."""


class MailError(Exception):
    """A message was not taken: by whom and why, in words without an address of a person or a password.

    `permanent` says that it is of no use to try again, `address` that no other message will be taken there either.
    """

    permanent: bool = False
    address: bool = False


def send_mail(message: EmailMessage, settings: MailSettings, recipient_id: str | None = None) -> None:
    """Hand a message, with its `From` and `To`, to what takes mail; return once that has taken it for every recipient.

    Args:
        message: one that is whole.
        settings: what takes it.
        recipient_id: whom it goes to, so that SES's later reports can name them; none of one's own operators.

    Raises:
        MailError: there is no server, it cannot be reached or trusted, or it refused.
        kaimon.base.aws.AwsError: the password is a reference to a secret that cannot be read.
        ValueError: that reference is not one.
    """
    if settings.mail_through == "ses":
        _by_ses(message, settings, recipient_id)
        return
    if settings.smtp_host is None:
        raise MailError("no mail server is set (KAIMON_SMTP_HOST)")
    place = f"{settings.smtp_host}:{settings.smtp_port}"
    trust = ssl.create_default_context(cafile=settings.smtp_ca)
    password = settings.smtp_password and resolved(settings.smtp_password, AwsSettings(home=settings.home))
    try:
        with _connected(settings.smtp_host, settings.smtp_port, trust) as server:
            if settings.smtp_user is not None:
                server.login(settings.smtp_user, password or "")
            refused = server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        refusal = MailError(f"{place} refused every recipient: {_codes(error.recipients)}")
        refusal.permanent = refusal.address = all(
            code >= 500 and not _RULES.match(said) for code, said in error.recipients.values()
        )
        raise refusal from None
    except smtplib.SMTPDataError as error:
        refusal = MailError(f"{place} answered {error.smtp_code} to the message")
        refusal.permanent = error.smtp_code >= 500
        raise refusal from None
    except smtplib.SMTPResponseException as error:
        # Its words may repeat an address or what was logged in with.
        raise MailError(f"{place} answered {error.smtp_code} ({type(error).__name__})") from None
    except (smtplib.SMTPException, OSError) as error:
        raise MailError(f"{place}: {type(error).__name__}: {error}") from error
    if refused:
        raise MailError(f"{place} refused {len(refused)} of the recipients: {_codes(refused)}")


def _by_ses(message: EmailMessage, settings: MailSettings, recipient_id: str | None) -> None:
    from kaimon.base.ses import send_by_ses

    try:
        send_by_ses(message, settings, recipient_id)
    except AwsError as error:
        # Its words may repeat an address: those of SES name who is not verified.
        refusal = MailError(f"SES: {error.code or 'no answer'} ({type(error).__name__})")
        # An identity that is not verified yet has the same code, and can be verified.
        refusal.permanent = error.code in _UNFIT and "not verified" not in str(error)
        raise refusal from None


def _connected(host: str, port: int, trust: ssl.SSLContext) -> smtplib.SMTP:
    if port == IMPLICIT_TLS_PORT:
        return smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT_S, context=trust)
    server = smtplib.SMTP(host, port, timeout=_TIMEOUT_S)
    try:
        # Fails where it is not offered: nothing goes in the clear.
        server.starttls(context=trust)
    except BaseException:
        server.close()
        raise
    return server


def _codes(refused: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(str(code) for code in sorted({code for code, _ in refused.values()}))
