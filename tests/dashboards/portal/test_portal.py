"""The portal as its people use it: log in, act, be refused."""

from __future__ import annotations

import re
import ssl
from typing import Any

import httpx
import pytest

from dashboards.portal.pages import ROUTES
from dashboards.portal.scope import TenantScope
from dashboards.portal.settings import PortalSettings
from tenancy.audit import read_chain
from tenancy.enrollment import create_token, enroll
from tenancy.hosts import list_hosts

HOST: dict[str, Any] = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7777*7777 }}",
    "\u202egnp.exe",
    "'; DROP TABLE--",
]


def test_no_stranger_to_the_code_makes_a_scope() -> None:
    with pytest.raises(TypeError, match="authentication alone"):
        TenantScope("acme", "prs_1", "admin", object())


@pytest.mark.parametrize("wrong", ["csrf", "origin"])
def test_a_change_that_does_not_come_from_our_own_page_is_refused(portal: Any, admin: Any, wrong: str) -> None:
    before = len(read_chain(portal.db, "acme")[1])
    made = {"csrf": "0" * 64} if wrong == "csrf" else {"origin": "https://evil.example"}
    assert admin.post("/t/acme/tokens", **made).status_code == 403
    assert len(read_chain(portal.db, "acme")[1]) == before


def test_a_token_is_made_shown_once_enrolls_and_is_revoked_with_its_hosts(portal: Any, admin: Any) -> None:
    page = admin.post("/t/acme/tokens", label=HOSTILE[0], uses="9", days="7")
    token = re.search(r"kmn_enr_\w+", page.text)
    assert token is not None
    assert token[0] not in admin.get("/t/acme/tokens").text
    enroll(portal.db, token[0], "web-1", HOST, "boot", "1.0")
    found = next(host for host in list_hosts(portal.db, "acme") if host.hostname == "web-1")
    assert "web-1" in admin.get("/t/acme/hosts").text
    assert "web-1" in admin.get(f"/t/acme/tokens/revoke?token={found.token_id}").text
    assert admin.post("/t/acme/tokens/revoke", token=found.token_id).status_code == 303
    assert next(host for host in list_hosts(portal.db, "acme") if host.hostname == "web-1").revoked_at is not None
    record = next(one for one in read_chain(portal.db, "acme")[1] if one.content["act"] == "token.revoke")
    assert record.content["actor"].startswith("prs_")
    assert record.content["request_id"].startswith("req_")


def test_whoever_is_removed_or_made_member_is_refused_at_their_next_request(portal: Any, admin: Any) -> None:
    assert admin.post("/t/acme/team/invite", email="eve@acme.example", role="admin").status_code == 303
    eve = portal.browser()
    assert eve.log_in("eve@acme.example").status_code == 303
    assert eve.get("/t/acme/audit").status_code == 200
    page = admin.get("/t/acme/team").text
    person = re.search(r"eve@acme.example.*?name=\"person\" value=\"(prs_\w+)\"", page, re.DOTALL)
    assert person is not None
    assert admin.post("/t/acme/team/role", person=person[1], role="member").status_code == 303
    assert eve.get("/t/acme/audit").status_code == 403
    assert admin.post("/t/acme/team/remove", person=person[1]).status_code == 303
    assert eve.get("/t/acme/").status_code == 404


def test_an_address_with_a_line_break_is_answered_as_any_other_that_leads_nowhere(portal: Any) -> None:
    answer = portal.browser().get("/no%0Awhere")
    assert answer.status_code == 404
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_last_admin_stays(portal: Any, stranger: Any) -> None:
    person = re.search(r"name=\"person\" value=\"(prs_\w+)\"", stranger.get("/t/bolt/team").text)
    assert person is not None
    assert stranger.post("/t/bolt/team/remove", person=person[1]).status_code == 409


def test_an_address_that_the_provider_does_not_vouch_for_logs_nobody_in(portal: Any, admin: Any) -> None:
    answer = portal.browser().log_in("new@acme.example", unverified="1")
    assert answer.status_code == 403
    assert "__Host-kaimon" not in {cookie.split("=")[0] for cookie in answer.headers.get_list("set-cookie")}


def test_a_login_begun_in_another_browser_is_refused(portal: Any) -> None:
    mine, theirs = portal.browser(), portal.browser()
    mine.get("/login")
    form = theirs.client.get(theirs.get("/login").headers["location"])
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text))
    back = theirs.client.post(f"{portal.issuer}/authorize", data={**hidden, "email": "ada@acme.example"})
    assert mine.client.get(back.headers["location"]).status_code == 403


def test_each_login_has_a_new_id_and_logout_ends_it_on_the_server(portal: Any, admin: Any) -> None:
    browser = portal.browser()
    first = browser.log_in("ada@acme.example").headers.get_list("set-cookie")
    cookie = next(text for text in first if text.startswith("__Host-kaimon="))
    for part in ("Secure", "HttpOnly", "Path=/", "SameSite=lax"):
        assert part in cookie
    assert "Domain" not in cookie
    old = browser.client.cookies["__Host-kaimon"]
    browser.log_in("ada@acme.example")
    new = browser.client.cookies["__Host-kaimon"]
    assert old != new
    assert browser.post("/logout").status_code == 303
    for secret in (old, new):
        cookie = {"Cookie": f"__Host-kaimon={secret}"}
        again = httpx.get(f"{portal.url}/t/acme/", verify=portal.trust, trust_env=False, headers=cookie)
        assert again.status_code == 303


def test_hostile_names_are_inert_on_every_page(portal: Any, admin: Any) -> None:
    for name in HOSTILE:
        _, token = create_token(portal.db, "acme", label=name)
        enroll(portal.db, token, name, HOST, "boot", "1.0")
    for route in ROUTES:
        if route.method == "GET":
            page = admin.get(f"/t/acme/{route.path}")
            # Ours alone, and no inline one: the policy would let none run.
            assert "<script" not in page.text.replace('<script src="/portal.js" defer></script>', "")
            assert "<img" not in page.text
            assert "\u202e" not in page.text
            assert "60481729" not in page.text
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
    assert "&lt;script&gt;" in admin.get("/t/acme/hosts").text


def test_nothing_older_than_tls_1_2_is_spoken(portal: Any) -> None:
    old = ssl.create_default_context(cafile=str(portal.home / "tls" / "ca.pem"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(portal.url, verify=old, trust_env=False)


@pytest.mark.parametrize(
    ("url", "issuer"),
    [("https://kaimon.example", "http://127.0.0.1:8445"), ("http://localhost:8444", None), ("https://a/b", None)],
)
def test_a_development_provider_cannot_serve_a_portal_that_is_not_on_this_machine(url: str, issuer: str | None) -> None:
    with pytest.raises(ValueError, match=r"portal_url|oidc_issuer"):
        PortalSettings(portal_url=url, oidc_issuer=issuer)


@pytest.mark.parametrize(
    "url",
    ["http://ingest.example", "https://ingest.example/v1", "https://$(id)", "https://a b", "https://a;b", "https://"],
)
def test_no_address_of_ingest_is_shown_that_a_shell_would_take_otherwise(url: str) -> None:
    """Whoever adds a host pastes it into a root shell."""
    with pytest.raises(ValueError, match="ingest_url"):
        PortalSettings(ingest_url=url)


def test_a_day_of_which_nothing_is_known_shows_no_zero_for_it(portal: Any, stranger: Any) -> None:
    page = stranger.get("/t/bolt/?day=2020-01-01").text
    assert "nothing is known" in page
    assert "<dt>File events</dt><dd>—</dd>" in page
    assert "<dt>Unknown host-hours</dt><dd>—</dd>" in page
    assert "<dt>Hosts heard that day</dt><dd>—</dd>" in page
    assert "<svg" not in page
