"""Confirm and stop through the real portal, as a browser, a mail program and a scanner of mail go about it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tenancy.audit import read_chain
from tenancy.recipients import Recipient, add_recipient, confirm, recipients, unsubscribe_token

STOP = {"List-Unsubscribe": "One-Click"}


def state(portal: Any, person: Recipient) -> str:
    return next(one.state for one in recipients(portal.db, "acme") if one.recipient_id == person.recipient_id)


@pytest.fixture
def bare(portal: Any) -> Any:
    """A mail program: it has no cookie, sends no origin and follows nothing."""
    with httpx.Client(verify=portal.trust, trust_env=False, timeout=60, base_url=portal.url) as client:
        yield client


@pytest.fixture
def invited(portal: Any, request: pytest.FixtureRequest) -> tuple[Recipient, str]:
    made = add_recipient(portal.db, "acme", f"{request.node.originalname[:60]}@acme.example")
    return made[0], f"/report/confirm?{urlencode({'code': made[1]})}"


@pytest.fixture
def confirmed(portal: Any, request: pytest.FixtureRequest) -> tuple[Recipient, str]:
    person, code = add_recipient(portal.db, "acme", f"{request.node.originalname[:60]}@acme.example")
    assert confirm(portal.db, code) is not None
    asked = {"recipient": person.recipient_id, "token": unsubscribe_token(person)}
    return person, f"/report/unsubscribe?{urlencode(asked)}"


def test_a_look_at_a_confirm_link_changes_nothing_and_its_one_button_confirms(
    portal: Any, bare: Any, invited: Any
) -> None:
    person, link = invited
    page = bare.get(link)
    assert page.status_code == 200
    assert re.findall(r"<(?:a|form|button|input)\b[^>]*>", page.text) == [
        '<a class="skip" href="#main">', '<form method="post">', '<button type="submit">'
    ]  # fmt: skip
    assert state(portal, person) == "pending"
    for _ in range(2):
        answer = bare.post(link)
        assert (answer.status_code, "Confirmed" in answer.text) == (200, True)
        assert state(portal, person) == "confirmed"
    noted = [one for one in read_chain(portal.db, "acme")[1] if one.content["act"] == "report.recipient_confirm"]
    assert noted[-1].content["actor"] == "recipient"


@pytest.mark.parametrize("form", ["urlencoded", "multipart", "empty"])
def test_one_click_ends_the_mails_without_cookie_form_token_or_redirect(
    portal: Any, bare: Any, confirmed: Any, form: str
) -> None:
    person, link = confirmed
    assert bare.get(link).status_code == 200
    assert state(portal, person) == "confirmed"
    body: dict[str, Any] = {
        "urlencoded": {"data": STOP},
        "multipart": {"files": {name: (None, value) for name, value in STOP.items()}},
        "empty": {},
    }[form]
    for _ in range(2):
        answer = bare.post(link, **body)
        assert answer.status_code == 200
        assert not answer.history
        assert "set-cookie" not in answer.headers
    assert state(portal, person) == "unsubscribed"


@pytest.mark.parametrize(
    "path",
    [
        "/report/confirm",
        "/report/confirm?code=x",
        "/report/confirm?code=%ff",
        "/report/unsubscribe?token=x",
        "/report/unsubscribe?recipient=rcp_0&token=%C3%A9",
    ],
)
def test_a_link_that_was_not_mailed_does_nothing_and_says_so(bare: Any, path: str) -> None:
    answer = bare.post(path, data=STOP)
    assert (answer.status_code, "does not hold" in answer.text) == (404, True)


def test_anothers_token_ends_nobodys_mails(portal: Any, bare: Any, confirmed: Any) -> None:
    person, link = confirmed
    other, _ = add_recipient(portal.db, "bolt", "other@bolt.example")
    assert bare.post(link.replace(person.recipient_id, other.recipient_id), data=STOP).status_code == 404
    assert bare.post(link[:-1], data=STOP).status_code == 404
    assert state(portal, person) == "confirmed"


def test_the_log_of_who_came_holds_no_token_of_a_link(portal: Any, bare: Any, confirmed: Any) -> None:
    person, link = confirmed
    assert bare.post(link, data=STOP).status_code == 200
    log = (portal.home.parent / "log").read_bytes()
    assert unsubscribe_token(person).encode() not in log
