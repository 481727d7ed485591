"""An erasure: nothing of one tenant is left in any byte of any store, and nothing of another is touched."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaimon.base.acting import Actor, acting_as
from kaimon.base.problems import Problem
from lake.commits import lease_name
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.landing import land_tenant
from pipelines.retention.erase import erase_tenant, read_receipt
from pipelines.retention.places import survey
from tenancy.audit import read_chain
from tenancy.audit_verify import verify_chain
from tenancy.credentials import Authenticator
from tenancy.days import list_days
from tenancy.enrollment import create_token, enroll
from tenancy.erasures import get_erasure, rows_of
from tenancy.hints import all_hints
from tenancy.leases import LeaseHeldError, held_lease
from tenancy.people import names, person_of
from tenancy.receipts import public_pem, receipt_key
from tenancy.tenants import create_tenant, get_tenant, list_tenants, set_subscription

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOST = {"os": "debian 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None}
WHAT = ("path", "target", "user", "host", "process", "exe", "late", "label", "name", "person", "log", "line")


def mark(tenant: str, what: str) -> str:
    return f"mark-{what}-of-{tenant}"


@pytest.fixture(autouse=True)
def _no_worker_is_left_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIMON_REVOCATION_GRACE_S", "0.01")


@pytest.fixture(params=["sqlite", "postgresql"])
def control(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    """Where the control database is; None: in the home."""
    if request.param == "sqlite":
        yield None
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.url(name := postgres.create())
    monkeypatch.setenv("KAIMON_DATABASE_URL", url)
    yield url
    postgres.drop(name)


@pytest.fixture
def stage(control: str | None, home: Any, monkeypatch: pytest.MonkeyPatch, new_load: Any) -> Callable[[str], Any]:
    """Make a tenant whose every text is marked: enrolled, landed, rolled up, told, and logged about."""
    monkeypatch.setenv("DAGSTER_HOME", str(home.path / "dagster"))
    (home.path / "dagster").mkdir(exist_ok=True)
    home.instance.dispose()
    home.instance = dg.DagsterInstance.local_temp(str(home.path / "dagster"))
    secrets: list[str] = []

    def make(tenant: str) -> list[str]:
        with acting_as(Actor(person_of(home.db, mark(tenant, "person")))):
            create_tenant(home.db, tenant, mark(tenant, "name"), "active")
            _, secret = create_token(home.db, tenant, label=mark(tenant, "label"))
        enrolled = enroll(home.db, secret, mark(tenant, "host"), HOST, f"boot-{tenant}", "0.1.0")
        secrets.extend((secret, enrolled.credential))
        load = new_load(agent_id=enrolled.agent_id, hostname=mark(tenant, "host"))
        texts = {what: mark(tenant, what) for what in ("user", "process", "exe")}
        load.do(NOON, path=f"/home/{mark(tenant, 'path')}", **texts)
        load.do(NOON, operation="rename", target_path=f"/srv/{mark(tenant, 'target')}", **texts)
        load.do(NOON - timedelta(days=30), path=f"/old/{mark(tenant, 'late')}", **texts)
        load.cut(NOON + timedelta(seconds=1), quarantine=lambda row: row["time"] < NOON)
        load.cut(NOON + timedelta(seconds=31), final=True)
        home.stage(tenant, load)
        # What a crash leaves behind, and a line with an error's text.
        for folder in ("staging", "lake"):
            (home.path / folder / tenant).mkdir(parents=True, exist_ok=True)
            (home.path / folder / tenant / ".draft.0f").write_text(mark(tenant, "path"))
        said = json.dumps({"event": "tenant_failed", "tenant": tenant, "exception": mark(tenant, "log")})
        for log in ("logs/pipelines.log", "dagster/storage/run/compute_logs/step.err"):
            (home.path / log).parent.mkdir(parents=True, exist_ok=True)
            with (home.path / log).open("a") as file:
                file.write(said + "\n")
        return secrets

    return make


def everything(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every byte below a folder as it lies there, and of Parquet and SQLite what their pages hold unpacked."""
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        name, data = str(path.relative_to(home)), path.read_bytes()
        yield name, name.encode() + b"\n" + data
        if data.startswith(b"PAR1"):
            table = pq.read_table(pa.BufferReader(data), partitioning=None)
            said = json.dumps(table.to_pylist(), default=str)
            yield f"{name} unpacked", f"{said}{pq.read_metadata(pa.BufferReader(data)).metadata}".encode()
        if data.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
                yield f"{name} dumped", "\n".join(opened.iterdump()).encode()


def found(home: Path, marks: list[str], control: str | None) -> dict[str, set[str]]:
    """Return where each mark is found."""
    places: dict[str, set[str]] = {text: set() for text in marks}
    for name, data in everything(home):
        for text in marks:
            if text.encode() in data:
                places[text].add(name)
    if control is not None:
        dump = subprocess.run(["pg_dump", control], capture_output=True, check=True).stdout
        for text in marks:
            if text.encode() in dump:
                places[text].add("pg_dump")
    return places


def files(home: Path, tenant: str) -> dict[str, str]:
    """Return the digest of every file in a tenant's folders."""
    folders = [home / place / tenant for place in ("staging", "lake", "outbox")]
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_of_an_erased_tenant_no_byte_is_left_anywhere_and_of_another_every_byte(
    stage: Callable[[str], list[str]], home: Any, control: str | None
) -> None:
    stage("acme")
    secrets = stage("beta")
    assert home.run("events").success
    assert home.run(day=DAY).success
    texts = [text for text in WHAT if text != "line"]
    mine, theirs = ([mark(tenant, what) for what in texts] for tenant in ("acme", "beta"))
    before = found(home.path, [*mine, *theirs, *secrets], control)
    assert all(before[text] for text in [*mine, *theirs]), "each mark must be somewhere before"
    assert not any(before[secret] for secret in secrets), "a token is nowhere as it is"
    places = {name.split("/")[0].split("-wal")[0] for text in mine for name in before[text]}
    assert {"staging", "lake", "outbox", "logs", "dagster"} <= places
    assert ("control.db" in places) is (control is None)
    untouched, rows = files(home.path, "beta"), rows_of(home.db, "beta")
    tables = {name: home.table("beta", name) for name in ("events", "batches", "quarantine", "activity", "summaries")}
    assert all(table.height for table in tables.values())

    receipt = erase_tenant(home.db, "acme")

    after = found(home.path, [*mine, *theirs], control)
    assert {text: names for text, names in after.items() if names and text in mine} == {}
    for text in theirs:
        assert after[text], text
        assert {name for name in before[text] if name != "control.db-wal"} <= after[text]
    assert files(home.path, "beta") == untouched
    assert files(home.path, "acme") == {}
    assert rows_of(home.db, "beta") == rows
    assert all(home.table("beta", name).equals(table) for name, table in tables.items())
    said = json.loads(receipt.body)
    assert said["tenant"] == "acme"
    assert {"staging", "outbox", "lake", "lake/events", "lake/summaries"} <= said["erased"]["stores"].keys()
    assert said["erased"]["stores"]["lake/events"]["rows"] == 2
    assert said["erased"]["control"]["hosts"]["rows"] == 1
    assert said["erased"]["control"]["people"] == {"names": 1}
    assert said["erased"]["log_lines"] >= 2  # and those of the run, where its log is on


@pytest.fixture
def staged(stage: Callable[[str], list[str]], home: Any) -> Any:
    """One tenant, landed."""
    stage("acme")
    assert home.run("events").success
    return home


only_sqlite = pytest.mark.parametrize("control", ["sqlite"], indirect=True)


@only_sqlite
def test_a_receipt_verifies_with_openssl_alone_and_a_changed_one_does_not(staged: Any, tmp_path: Path) -> None:
    held = survey("acme", LakeSettings())
    receipt = erase_tenant(staged.db, "acme")
    key, body, signature = tmp_path / "key.pem", tmp_path / "receipt.json", tmp_path / "receipt.sig"
    key.write_text(public_pem(receipt_key(staged.db.settings).public_key()))
    body.write_bytes(receipt.body)
    signature.write_bytes(receipt.signature)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", body, "-sigfile", signature]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "Signature Verified Successfully\n"
    assert json.loads(receipt.body)["erased"]["stores"] == held
    body.write_bytes(receipt.body.replace(b'"tenant":"acme"', b'"tenant":"acne"'))
    assert subprocess.run(command, capture_output=True).returncode == 1


@only_sqlite
def test_the_audit_chain_still_verifies_and_holds_the_receipts_digest(staged: Any) -> None:
    before = read_chain(staged.db, "acme")[1]
    receipt = erase_tenant(staged.db, "acme")
    head, records = read_chain(staged.db, "acme")
    assert verify_chain("acme", head, records, []) is None
    assert records[: len(before)] == before
    begun, done = (record.content for record in records[-2:])
    assert (begun["act"], done["act"]) == ("tenant.erase.begin", "tenant.erase")
    assert done["detail"] == {"receipt": hashlib.sha256(receipt.body).hexdigest()}
    assert mark("acme", "person") not in names(staged.db).values()


@only_sqlite
def test_an_operators_name_outlives_an_erasure(staged: Any) -> None:
    who = person_of(staged.db, "login:jane")
    with acting_as(Actor(who)):
        erase_tenant(staged.db, "acme")
    assert names(staged.db) == {who: "login:jane"}


@only_sqlite
def test_an_erasure_is_refused_while_somebody_writes_the_tables_and_nothing_is_begun(staged: Any) -> None:
    before = files(staged.path, "acme")
    with held_lease(staged.db, lease_name("acme"), "a landing", 60), pytest.raises(LeaseHeldError):
        erase_tenant(staged.db, "acme")
    assert get_erasure(staged.db, "acme") is None
    assert files(staged.path, "acme") == before
    tenant = get_tenant(staged.db, "acme")
    assert tenant is not None
    assert tenant.subscription == "active"


@only_sqlite
def test_a_tenant_is_refused_from_the_first_moment_and_what_was_under_way_goes_too(
    staged: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_REVOCATION_GRACE_S", "30")
    staged.db.settings = type(staged.db.settings)()
    _, secret = create_token(staged.db, "acme")
    credential = enroll(staged.db, secret, "web-2", HOST, "boot-2", "0.1.0").credential
    worker = Authenticator(staged.db)
    worker.authenticate(credential, "192.0.2.1")
    waited: list[float] = []

    def meanwhile(seconds: float) -> None:
        """What happens between the first sweep and the last."""
        waited.append(seconds)
        assert files(staged.path, "acme") == {}
        worker.poll()
        with pytest.raises(Problem) as refused:
            worker.authenticate(credential, "192.0.2.1")
        assert refused.value.status == 401
        with pytest.raises(Problem):
            enroll(staged.db, secret, "web-3", HOST, "boot-3", "0.1.0")
        with pytest.raises(ValueError, match="was erased, or is being"):
            set_subscription(staged.db, "acme", "active")
        late = new_load(hostname=mark("acme", "line"))
        late.do(NOON)
        late.cut(NOON)
        staged.stage("acme", late)
        assert land_tenant(staged.db, "acme", "a landing").held_elsewhere

    receipt = erase_tenant(staged.db, "acme", wait=meanwhile)
    assert len(waited) == 1
    assert 25 < waited[0] <= 30
    assert [late["kind"] for late in json.loads(receipt.body)["erased"]["late"]] == ["staging"]
    assert files(staged.path, "acme") == {}
    assert not [hint for hint in all_hints(staged.db) if hint.tenant_id == "acme"]
    assert list_days(staged.db, "acme") == []
    assert found(staged.path, [mark("acme", "line")], None) == {mark("acme", "line"): set()}


@only_sqlite
def test_erasing_again_gives_the_same_receipt_and_the_id_is_never_given_again(staged: Any) -> None:
    receipt = erase_tenant(staged.db, "acme")
    assert erase_tenant(staged.db, "acme") == receipt
    erasure = get_erasure(staged.db, "acme")
    assert erasure is not None
    assert read_receipt(erasure, open_store("audit")) == receipt
    assert list_tenants(staged.db) == []
    with pytest.raises(ValueError, match="not given again"):
        create_tenant(staged.db, "acme")
    with pytest.raises(ValueError, match="there is no tenant 'zeta'"):
        erase_tenant(staged.db, "zeta")


@only_sqlite
def test_a_link_in_a_tenants_folder_is_removed_and_never_followed(staged: Any) -> None:
    outside = staged.path / "elsewhere"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (staged.path / "lake" / "acme" / "events" / "link").symlink_to(outside)
    erase_tenant(staged.db, "acme")
    assert (outside / "kept").read_text() == "kept"
    assert not (staged.path / "lake" / "acme").exists()
