"""The page Security: what is promised, who else processes data, and the agent as it was signed."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from dashboards.portal.policy import PROCESSORS, PROMISES
from lake.access_reads import read_access
from lake.settings import LakeSettings
from lake.stores import open_store
from tenancy.wording import allow_model
from tests.dashboards.portal.releases import PROGRAM, make_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("offered") / "release")


@pytest.fixture(scope="module")
def offering(release: Path, tmp_path_factory: pytest.TempPathFactory, portal_maker: Any) -> Iterator[Any]:
    running = portal_maker(
        tmp_path_factory.mktemp("offering"), KAIMON_PORTAL_AGENT_FOLDER=str(release), KAIMON_ACCESS_FLUSH_S="0.2"
    )
    yield running
    running.close()


@pytest.fixture(scope="module")
def someone(offering: Any) -> Any:
    return offering.member("acme", "max@acme.example", "member")


def test_the_page_has_every_promise_with_its_limit_and_every_processor(portal: Any, member: Any) -> None:
    page = unescape(member.get("/t/acme/security").text)
    assert not [one.text for one in PROMISES if one.text not in page or one.limit not in page]
    assert not [one.name for one in PROCESSORS if one.name not in page]
    assert "security@kaimon.co" in page
    assert "offers no download of the agent" in page
    assert member.get("/t/acme/security/agent?file=install.sh").status_code == 404


def test_bedrock_processes_data_of_those_alone_who_let_a_model_word_their_summaries(portal: Any, stranger: Any) -> None:
    assert "Amazon Web Services: Bedrock" not in stranger.get("/t/bolt/security").text
    allow_model(portal.db, "bolt", allowed=True)
    try:
        assert "Amazon Web Services: Bedrock" in stranger.get("/t/bolt/security").text
    finally:
        allow_model(portal.db, "bolt", allowed=False)


def test_what_was_taken_verifies_with_openssl_by_the_lines_on_the_page(
    someone: Any, release: Path, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    page = unescape(someone.get("/t/acme/security").text)
    assert "Version 1.2.3" in page
    links = re.findall(r'href="(/t/acme/security/agent\?file=([^"]+))"', page)
    assert {name for _, name in links} == {one.name for one in release.iterdir()} - {"notes"}
    for link, name in links:
        answer = someone.get(link)
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        (tmp_path / name).write_bytes(answer.content)
    fingerprint = re.search(r'id="fingerprint">([0-9a-f]{64})<', page)
    assert fingerprint is not None
    lines = re.findall(r"(openssl [^<]+|sha256sum [^<]+)", page)
    said = subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert fingerprint[1] in said.stdout
    assert "Signature Verified Successfully" in said.stdout
    assert f"{PROGRAM}: OK" in said.stdout


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "?file=../secret",
        "?file=..%2Fsecret",
        "?file=%2Fetc%2Fpasswd",
        "?file=notes",
        "/../../secret",
        "/install.sh",
    ],
)
def test_no_address_leads_out_of_the_release(someone: Any, asked: str) -> None:
    answer = someone.get(f"/t/acme/security/agent{asked}")
    assert answer.status_code == 404
    assert "never this" not in answer.text


def test_a_release_that_was_changed_is_neither_listed_nor_handed_out(someone: Any, release: Path) -> None:
    sums = release / "SHA256SUMS"
    signed = sums.read_bytes()
    sums.write_bytes(signed.replace(b"install.sh", b"instell.sh"))
    try:
        assert "not as it was signed" in someone.get("/t/acme/security").text
        answer = someone.get("/t/acme/security/agent?file=install.sh")
        assert answer.status_code == 503
    finally:
        sums.write_bytes(signed)
    assert someone.get("/t/acme/security/agent?file=install.sh").status_code == 200


def test_who_took_the_agent_is_in_the_access_log(offering: Any, someone: Any) -> None:
    assert someone.get(f"/t/acme/security/agent?file={PROGRAM}").status_code == 200
    store, now = open_store("audit", LakeSettings(home=offering.home)), datetime.now(UTC)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = list(read_access(store, now - timedelta(days=1), now + timedelta(days=1)))
        mine = [one for one in found if one.what == "portal GET /t/…/security/agent" and one.outcome == "ok"]
        if mine:
            break
        time.sleep(0.1)
    assert mine
    assert {(one.tenant, one.status) for one in mine} == {("acme", 200)}
    assert all(one.who for one in mine)
