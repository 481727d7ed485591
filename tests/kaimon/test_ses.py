"""Mail through SES by the real client: as it was written, retried where that helps, and what comes back is heard."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from kaimon.base.aws import AwsError
from kaimon.base.mail import MailError, send_mail
from kaimon.base.regions import RegionError
from kaimon.base.ses import Report, reports
from kaimon.base.settings import MailSettings
from tests.aws import REGION, ROLE


def a_mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "kaimon@kaimon.example", "ciso@acme.example"
    message["Subject"], message["Message-ID"] = "kaimon acme: größer", "<one@kaimon.invalid>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content("text\n")
    message.add_alternative("<p>html</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
    return message


class Endpoint:
    """Answers as scripted and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status, answer = outer.answers.pop(0) if outer.answers else (200, {"MessageId": "1"})
                body = json.dumps(answer).encode()
                self.send_response(status)
                if "code" in answer:
                    self.send_header("x-amzn-ErrorType", answer["code"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    made = Endpoint()
    for name, value in ROLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KAIMON_AWS_REGION", REGION)
    monkeypatch.setenv("KAIMON_AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server.server_port}")
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_mail_comes_to_ses_as_it_was_written_and_marked_with_whom_it_is_for(endpoint: Endpoint) -> None:
    settings = MailSettings(mail_through="ses", ses_configuration_set="kaimon")
    send_mail(a_mail(), settings, "rcp_0123456789abcdef")
    (asked,) = endpoint.asked
    assert asked["ConfigurationSetName"] == "kaimon"
    assert asked["EmailTags"] == [{"Name": "kaimon-recipient", "Value": "rcp_0123456789abcdef"}]
    assert asked["FromEmailAddress"] == "kaimon@kaimon.example"
    assert asked["Destination"] == {"ToAddresses": ["ciso@acme.example"]}
    came = message_from_bytes(base64.b64decode(asked["Content"]["Raw"]["Data"]), policy=policy.default)
    assert dict(came.items()).items() >= dict(a_mail().items()[:5]).items()
    assert came.get_body(("html",)).get_content() == "<p>html</p>\r\n"
    assert [part.get_filename() for part in came.iter_attachments()] == ["a.pdf"]


def test_ses_that_asks_for_patience_is_asked_again_and_one_that_refuses_is_not(endpoint: Endpoint) -> None:
    settings = MailSettings(mail_through="ses")
    busy = (429, {"code": "TooManyRequestsException", "message": "slow down"})
    endpoint.answers = [busy, (503, {"message": "away"})]
    send_mail(a_mail(), settings)
    assert len(endpoint.asked) == 3
    endpoint.answers = [
        (400, {"code": "MessageRejected", "message": "Email address is not verified: ciso@acme.example"})
    ]
    with pytest.raises(MailError, match="MessageRejected") as refused:
        send_mail(a_mail(), settings)
    assert len(endpoint.asked) == 4
    assert "ciso" not in str(refused.value)
    # Nobody's address is to blame for it, and whoever verifies it has the mail go out.
    assert (refused.value.permanent, refused.value.address) == (False, False)


@pytest.mark.parametrize(
    ("status", "code", "permanent"),
    [
        (400, "MessageRejected", True),
        (400, "BadRequestException", True),
        (400, "SendingPausedException", False),
        (400, "AccountSuspendedException", False),
        (400, "MailFromDomainNotVerifiedException", False),
        (404, "NotFoundException", False),
        (403, "AccessDeniedException", False),
    ],
)
def test_only_a_message_that_ses_will_never_take_is_given_up_and_no_address_with_it(
    endpoint: Endpoint, status: int, code: str, permanent: bool
) -> None:
    endpoint.answers = [(status, {"code": code, "message": "no"})]
    with pytest.raises(MailError, match=code) as refused:
        send_mail(a_mail(), MailSettings(mail_through="ses"))
    assert len(endpoint.asked) == 1
    assert (refused.value.permanent, refused.value.address) == (permanent, False)


def test_each_of_an_alerts_addresses_is_told_to_ses_as_one(endpoint: Endpoint) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "kaimon@kaimon.example", "ops@example.com, Night <night@example.com>"
    message.set_content("text\n")
    send_mail(message, MailSettings(mail_through="ses"))
    assert endpoint.asked[0]["Destination"] == {"ToAddresses": ["ops@example.com", "night@example.com"]}


def test_nothing_is_mailed_from_outside_the_united_states(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ROLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KAIMON_AWS_REGION", raising=False)
    with pytest.raises(RegionError):
        send_mail(a_mail(), MailSettings(mail_through="ses"))


def test_a_stand_in_for_ses_takes_it_from_who_is_verified_only(aws: Any) -> None:
    settings = MailSettings(mail_through="ses")
    with pytest.raises(MailError, match="MessageRejected"):
        send_mail(a_mail(), settings)
    aws.client("sesv2").create_email_identity(EmailIdentity="kaimon@kaimon.example")
    send_mail(a_mail(), settings)
    there = httpx.get(f"http://127.0.0.1:{aws.port}/moto-api/data.json").json()["ses"]["RawMessage"]
    assert "größer" in message_from_bytes(there[-1]["raw_data"].encode(), policy=policy.default)["Subject"]


def _event(kind: str, recipient: str, key: str = "eventType", bounce: str = "Permanent") -> dict[str, Any]:
    return {key: kind, "bounce": {"bounceType": bounce}, "mail": {"tags": {"kaimon-recipient": [recipient]}}}


def test_bounces_and_complaints_are_heard_once_and_nonsense_is_not_heard_for_ever(aws: Any) -> None:
    client = aws.client("sqs")
    queue = client.create_queue(QueueName="mail-reports")["QueueUrl"]
    by_sns = {"Type": "Notification", "Message": json.dumps(_event("Complaint", "rcp_2"))}
    for body in (
        json.dumps(_event("Bounce", "rcp_1")), json.dumps(by_sns),
        json.dumps(_event("Bounce", "rcp_3", bounce="Transient")),
        json.dumps(_event("Delivery", "rcp_4")), json.dumps(_event("Bounce", "rcp_5", "notificationType")),
        json.dumps(_event("Complaint", "rcp_6") | {"complaint": {"complaintFeedbackType": "not-spam"}}),
        "{", "[]", "{}", json.dumps({"Type": "Notification"}), json.dumps({"eventType": "Bounce"}),
    ):  # fmt: skip
        client.send_message(QueueUrl=queue, MessageBody=body)
    settings = MailSettings(mail_through="ses", ses_events_queue=queue)
    heard = sorted(reports(settings), key=lambda report: report.recipient_id)
    assert heard == [Report("rcp_1", True), Report("rcp_2", True), Report("rcp_3", False), Report("rcp_5", True)]
    assert list(reports(settings)) == []
    left = client.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert (left["ApproximateNumberOfMessages"], left["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


def test_a_queue_elsewhere_is_not_asked(aws: Any) -> None:
    elsewhere = MailSettings(mail_through="ses", ses_events_queue=f"http://127.0.0.1:{aws.port}/123456789012/none")
    with pytest.raises(AwsError, match="queue of mail reports"):
        list(reports(elsewhere))
