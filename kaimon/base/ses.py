"""Mail through Amazon SES, and what SES reports of it later: it takes a mail before anybody's server has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import getaddresses
from typing import Any, Final

from kaimon.base.aws import aws_client, calling, surroundings
from kaimon.base.logs import get_logger
from kaimon.base.settings import AwsSettings, MailSettings

TAG: Final = "kaimon-recipient"
"""What a mail is marked with, so that a report names whom it is about without an address."""
_AT_ONCE: Final = 10
_ROUNDS: Final = 100
_CLIENTS: Final[dict[tuple[object, ...], Any]] = {}


@dataclass(frozen=True)
class Report:
    """What became of a mail to a recipient: `permanent` if nothing may be sent there any more."""

    recipient_id: str
    permanent: bool


def send_by_ses(message: EmailMessage, settings: MailSettings, recipient_id: str | None) -> None:
    """Hand a message, with its `From` and `To`, to SES as it is; return once SES has taken it.

    Raises:
        kaimon.base.aws.AwsAwayError: nobody answered, or SES asks to come back later; boto3 has tried thrice.
        kaimon.base.aws.AwsError: SES refused it.
        kaimon.base.regions.RegionError: no region is set, or one outside the United States.
    """
    asked: dict[str, Any] = {"Content": {"Raw": {"Data": message.as_bytes(policy=SMTP)}}}
    if recipient_id is not None:
        asked["EmailTags"] = [{"Name": TAG, "Value": recipient_id}]
    if settings.ses_configuration_set is not None:
        asked["ConfigurationSetName"] = settings.ses_configuration_set
    aws = AwsSettings(home=settings.home)
    to = [address for _, address in getaddresses([str(message["To"])])]
    with calling(f"mail through SES in {aws.aws_region}"):
        _client(aws).send_email(FromEmailAddress=str(message["From"]), Destination={"ToAddresses": to}, **asked)


def _client(aws: AwsSettings) -> Any:
    """Return the client that this process keeps: to make one costs more than a mail, and a run sends many."""
    where = (aws.aws_endpoint_url, *surroundings(aws))
    if where not in _CLIENTS:
        _CLIENTS[where] = aws_client("sesv2", aws)
    return _CLIENTS[where]


def reports(settings: MailSettings) -> Iterator[Report]:
    """Yield what waits in the queue of SES's events; each is taken out of it once the caller asks for the next.

    A caller that dies finds what it had not finished again, after the queue's visibility timeout.

    Raises:
        kaimon.base.aws.AwsError: the queue cannot be read.
        kaimon.base.regions.RegionError: it lies outside the United States.
    """
    if settings.ses_events_queue is None:
        return
    queue = settings.ses_events_queue
    aws = AwsSettings(home=settings.home)
    client = aws_client("sqs", aws)
    for _ in range(_ROUNDS):
        with calling(f"queue of mail reports in {aws.aws_region}"):
            waiting = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=_AT_ONCE).get("Messages", [])
        if not waiting:
            return
        for one in waiting:
            yield from _read(one["Body"])
            with calling(f"queue of mail reports in {aws.aws_region}"):
                client.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])


def _read(body: str) -> Iterator[Report]:
    """Yield what a message of the queue says: an event of SES, as it is or within a notification of SNS."""
    try:
        event = json.loads(body)
        if event.get("Type") == "Notification":
            event = json.loads(event["Message"])
        kind = event.get("eventType") or event.get("notificationType")
        if kind not in {"Bounce", "Complaint"}:
            return
        if kind == "Complaint" and event.get("complaint", {}).get("complaintFeedbackType") == "not-spam":
            return
        # Who calls it spam wants no more of it, and an address that is away may come back.
        permanent = kind == "Complaint" or event["bounce"]["bounceType"] == "Permanent"
        for recipient_id in event["mail"].get("tags", {}).get(TAG, ()):
            yield Report(str(recipient_id), permanent)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        # It would come again for ever; what it holds may name people.
        get_logger(__name__).warning("mail_report_unreadable", error=type(error).__name__)
