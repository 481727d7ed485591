"""What is held, and its erasure as an Admin asks for it: confirmed, withdrawn, carried out, and its receipt."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from lake.settings import LakeSettings
from pipelines.retention.daily import retain
from pipelines.settings import PipelineSettings
from tenancy.alarms import list_alarms
from tenancy.audit import read_chain
from tenancy.erasure_requests import request_of
from tenancy.erasures import get_erasure
from tenancy.receipts import receipt_key
from tenancy.retention import set_keep_days
from tenancy.tenants import create_tenant, get_tenant
from tests.dashboards.portal import filled


@pytest.fixture(scope="module")
def keeping(portal_maker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A portal with a tenant that has a day of data, whose name is not its id."""
    running = portal_maker(tmp_path_factory.mktemp("keeping"))
    with closing(running):
        create_tenant(running.db, "corp", "Corp & Sons")
        filled.fill(LakeSettings(home=running.home), "corp")
        yield running


@pytest.fixture(scope="module")
def ana(keeping: Any) -> Any:
    return keeping.member("corp", "ana@corp.example", "admin")


@pytest.fixture(scope="module")
def mel(keeping: Any) -> Any:
    return keeping.member("corp", "mel@corp.example", "member")


def words(page: httpx.Response) -> str:
    assert page.status_code == 200, page.text
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


def acts(keeping: Any) -> list[str]:
    return [record.content["act"] for record in read_chain(keeping.db, "corp")[1]]


def ask(who: Any) -> str:
    """Ask for everything's erasure; return the path of the link that is shown."""
    page = who.post("/t/corp/retention/erase", name="Corp & Sons")
    assert page.status_code == 200, page.text
    found = re.search(r"https://localhost:\d+(/erasure\?code=[\w-]{43})<", page.text)
    assert found is not None
    return found[1]


def night(keeping: Any, later: timedelta) -> None:
    """Run retention as of so much later."""
    before = keeping.db.clock
    keeping.db.clock = lambda: datetime.now(UTC) + later
    try:
        outcome = retain(
            keeping.db,
            "test",
            LakeSettings(home=keeping.home),
            PipelineSettings(home=keeping.home),
            wait=lambda _seconds: None,
        )
    finally:
        keeping.db.clock = before
    assert not outcome.failed, outcome


def test_the_page_and_the_api_say_what_is_held_and_for_how_long(keeping: Any, mel: Any) -> None:
    page = words(mel.get("/t/corp/retention"))
    api = keeping.api("corp", "read:retention")
    told = api.get("/retention").json()
    events = next(one for one in told["tables"] if one["table"] == "events")
    assert (events["rows"], events["oldest"], events["newest"]) == (2100, "2026-03-04", "2026-03-04")
    assert f"events 2026-03-04 2026-03-04 2,100 1 {events['bytes']:,}" in page
    whole = sum(one["bytes"] for one in told["tables"])
    assert f"2026-03-04 2,100 {events['bytes']:,} {whole:,}" in page
    on_disk = (keeping.home / "lake" / "corp").rglob("*.parquet")
    assert whole == sum(file.stat().st_size for file in on_disk)
    assert (told["requested"], told["begun"], told["keep_days"]) == (None, False, None)
    first = api.get("/retention/held?limit=1").json()
    rest = api.get("/retention/held", params={"cursor": first["next"]}).json()
    assert sorted(one["table"] for one in first["items"] + rest["items"]) == ["activity", "completeness", "events"]
    assert "While a trial or a subscription lasts every day is kept" in page
    assert "Only an Admin can have everything erased" in page
    set_keep_days(keeping.db, "corp", 400)
    assert "400 whole days before today are kept" in words(mel.get("/t/corp/retention"))
    earlier = words(mel.get("/t/corp/retention?day=2026-03-03")).partition("By day")[2]
    assert earlier.startswith(" Of that day and those before it nothing is held. Newest days")


def test_an_erasure_is_asked_for_only_with_the_tenants_name_and_an_admin_may_withdraw_it(
    keeping: Any, ana: Any, mel: Any
) -> None:
    assert "Corp &amp; Sons" in ana.get("/t/corp/retention/erase").text
    for wrong in ("corp", "corp & sons", ""):
        assert ana.post("/t/corp/retention/erase", name=wrong).status_code == 400
    assert mel.post("/t/corp/retention/erase", name="Corp & Sons").status_code == 403
    assert ana.post("/t/corp/retention/erase", csrf="0" * 64, name="Corp & Sons").status_code == 403
    assert request_of(keeping.db, "corp") is None
    link = ask(ana)
    assert ana.post("/t/corp/retention/erase", name="Corp & Sons").status_code == 409
    assert ana.get("/t/corp/retention/erase").status_code == 409
    page = words(mel.get("/t/corp/retention"))
    assert "as ana@corp.example asked" in page
    assert "Withdraw it" not in page
    assert "Everything of this tenant is erased in the night after" in words(mel.get("/t/corp/team"))
    assert "erasure_requested" in {alarm.kind for alarm in list_alarms(keeping.db, "corp")}
    told = keeping.api("corp", "read:retention").get("/retention").json()
    asked = request_of(keeping.db, "corp")
    assert asked is not None
    assert told["requested"]["requested_by"] == asked.requested_by
    assert asked.due_at - asked.requested_at == timedelta(hours=24)
    nobody = keeping.browser()
    assert "It has not begun" in words(nobody.get(link))
    assert nobody.get(f"{link}&file=receipt").status_code == 404
    # Not before its time, whatever runs.
    night(keeping, timedelta(hours=23))
    assert get_erasure(keeping.db, "corp") is None
    assert ana.post("/t/corp/retention/withdraw").status_code == 303
    assert nobody.get(link).status_code == 404
    night(keeping, timedelta(days=3))
    assert get_tenant(keeping.db, "corp") is not None
    assert "Everything of this tenant" not in words(mel.get("/t/corp/team"))
    assert ana.post("/t/corp/retention/withdraw").status_code == 404
    done = [act for act in acts(keeping) if act.startswith("tenant.erase")]
    assert done == ["tenant.erase.request", "tenant.erase.withdraw"]


def test_what_was_asked_for_is_erased_and_its_receipt_reaches_whoever_has_the_link(
    keeping: Any, ana: Any, tmp_path: Path
) -> None:
    receipt_key(keeping.db.settings)
    kept_before = words(ana.get("/t/corp/retention")).partition("Its fingerprint, SHA-256: ")[2][:64]
    link = ask(ana)
    night(keeping, timedelta(hours=25))
    assert not (keeping.home / "lake" / "corp").exists()
    # Whoever was logged in is nobody now.
    assert ana.get("/t/corp/retention").headers["location"].startswith("/login?")
    nobody = keeping.browser()
    page = nobody.get(link)
    assert f"its fingerprint, SHA-256: {kept_before}" in words(page)
    for file, name in (("receipt", "corp.json"), ("signature", "corp.json.sig"), ("key", "receipts.pem")):
        answer = nobody.get(f"{link}&file={file}")
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        (tmp_path / name).write_bytes(answer.content)
    command = re.search(r"openssl [^<]+", page.text)
    assert command is not None
    done = subprocess.run(command[0].split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Signature Verified Successfully"), done.stderr
    receipt = json.loads((tmp_path / "corp.json").read_text())
    assert (receipt["tenant"], receipt["reason"], receipt["signed_by"]) == ("corp", "request", kept_before)
    assert receipt["erased"]["stores"]["lake/events"]["rows"] == 2100
    # The code of one tenant opens nothing else, and neither does what is near it.
    for wrong in ("", link[:-1], f"{link[:-1]}{'A' if link[-1] != 'A' else 'B'}", f"{link}&file=../control.db"):
        assert nobody.get(wrong if wrong.startswith("/erasure") else "/erasure").status_code == 404


def test_another_tenants_admin_sees_and_asks_nothing_of_it(keeping: Any) -> None:
    sue = keeping.member("bolt", "sue@bolt.example", "admin")
    for answer in (sue.get("/t/acme/retention"), sue.post("/t/acme/retention/erase", name="acme")):
        assert answer.status_code == 404
    assert request_of(keeping.db, "acme") is None
