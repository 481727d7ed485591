"""`kaimon doctor`: what is good is said to be good, and each thing that is not is named with what to do."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result

from kaimon.base.tls import ensure_development_tls
from kaimon.cli import doctor
from kaimon.cli.doctor import machine
from kaimon.cli.main import build
from lake.settings import LakeSettings
from lake.stores import local_folder
from tenancy.database import open_database
from tenancy.settings import TenancySettings

Run = Callable[..., Result]
Found = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    return build(["doctor"])


@pytest.fixture
def look(run: Run, app: typer.Typer) -> Callable[..., Found]:
    def do(status: int | None = None) -> Found:
        answer = run(app, "doctor", "--json")
        found = [json.loads(line) for line in answer.stdout.splitlines()]
        failed = any(one["level"] == "fail" for one in found)
        assert answer.exit_code == int(failed), answer.output
        assert status is None or answer.exit_code == status, answer.output
        return {(one["level"], one["about"]): one["said"] for one in found}

    return do


@pytest.fixture
def good(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with everything in it, as an installation would have."""
    settings = TenancySettings()
    db = open_database(settings)
    db.keys.prepare()
    db.close()
    home.chmod(0o700)
    made = ensure_development_tls(home / "elsewhere")
    monkeypatch.setenv("KAIMON_TLS_CERTIFICATE", str(made.certificate))
    monkeypatch.setenv("KAIMON_TLS_KEY", str(made.key))
    for name in ("staging", "lake", "audit", "public", "outbox"):
        local_folder(LakeSettings().url(name)).mkdir()  # type: ignore[arg-type]
    return home


def test_a_sound_installation_fails_nothing_and_is_left_as_it_was(good: Path, look: Callable[..., Found]) -> None:
    before = sorted(path for path in good.rglob("*") if "access" not in path.parts)
    found = look(0)
    assert {about for level, about in found if level == "ok"} >= {
        "tls", "tls key", "database", "keys", "store staging", "store lake", "store audit", "store public", "files",
        "settings",
    }  # fmt: skip
    assert {"room for home", "swap", "core dumps", "clock", "volume of home"} <= {about for _, about in found}
    assert sorted(path for path in good.rglob("*") if not path.name.startswith("control.db-")) == [
        path for path in before if not path.name.startswith("control.db-")
    ]


def test_an_empty_home_is_said_to_be_new_and_nothing_is_made(home: Path, look: Callable[..., Found]) -> None:
    found = look(0)
    assert {about for level, about in found if level == "warn"} >= {"tls", "database", "files", "store staging"}
    assert not home.exists()


def test_the_command_itself_says_a_line_each_and_how_many(good: Path) -> None:
    kaimon = Path(sys.executable).parent / "kaimon"
    (good / "keys" / "token.key").chmod(0o644)
    done = subprocess.run([kaimon, "doctor"], env=os.environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    *lines, counts = done.stdout.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "fail  ")) for line in lines)
    assert any(line.startswith("fail  files: ") and line.endswith("(0644): chmod 600") for line in lines)
    fails = sum(line.startswith("fail") for line in lines)
    assert counts.endswith(f"{fails} fail")


def certificate(folder: Path, days: int) -> None:
    """Make the certificate of this folder anew, so that it ends in so many days."""
    shutil.rmtree(folder / "tls")
    ensure_development_tls(folder, datetime.now(UTC) + timedelta(days=days - 397))


@pytest.mark.parametrize(
    ("days", "level", "said"), [(-1, "fail", "not today"), (5, "warn", "renew it"), (90, "ok", "until")]
)
def test_a_certificate_that_ends_is_told(
    good: Path, look: Callable[..., Found], days: int, level: str, said: str
) -> None:
    certificate(good / "elsewhere", days)
    assert said in look()[level, "tls"]


def test_a_key_of_another_certificate_or_open_to_others_fails(
    good: Path, look: Callable[..., Found], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = good / "elsewhere" / "tls" / "server.key"
    key.chmod(0o640)
    assert "(0640): chmod 600" in look(1)["fail", "tls key"]
    other = ensure_development_tls(tmp_path / "other").key
    monkeypatch.setenv("KAIMON_TLS_KEY", str(other))
    assert "not the certificate's" in look(1)["fail", "tls key"]
    other.write_text("nonsense")
    assert "no private key" in look(1)["fail", "tls key"]


def test_a_certificate_that_is_gone_is_a_finding_and_the_rest_is_looked_at(
    good: Path, look: Callable[..., Found]
) -> None:
    (good / "elsewhere" / "tls" / "server.pem").unlink()
    found = look(1)
    assert "FileNotFoundError" in found["fail", "tls"]
    assert ("ok", "database") in found


def revision(home: Path, to: str) -> None:
    with sqlite3.connect(home / "control.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [to])
    connection.close()


def test_a_database_of_another_version_is_told_and_not_migrated(good: Path, look: Callable[..., Found]) -> None:
    revision(good, "0002")
    assert "any other command migrates it" in look(0)["warn", "database"]
    assert "0002" in look(0)["warn", "database"]
    revision(good, "9999")
    assert "newer kaimon" in look(1)["fail", "database"]


def test_a_database_that_is_damaged_or_away_fails(
    good: Path, look: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    (good / "control.db").write_bytes(b"not a database" * 100)
    assert ("fail", "database") in look(1)
    monkeypatch.setenv("KAIMON_DATABASE_URL", "postgresql://kaimon:s3cret-word@127.0.0.1:1/kaimon")
    found = look(1)
    assert ("fail", "database") in found
    assert "s3cret-word" not in json.dumps(list(found.values()))


def test_keys_that_do_not_fit_fail(good: Path, look: Callable[..., Found]) -> None:
    key = good / "keys" / "token.key"
    key.write_bytes(bytes(32))
    assert "not the key" in look(1)["fail", "keys"]
    key.unlink()
    assert ("fail", "keys") in look(1)
    assert not key.exists()


def test_a_store_that_cannot_be_written_fails(
    good: Path, look: Callable[..., Found], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KAIMON_LAKE_URL", (tmp_path / "file").as_uri())
    assert "put" in look(1)["fail", "store lake"]


def test_a_store_of_a_kind_that_there_is_none_of_fails_and_the_others_are_looked_at(
    good: Path, look: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_STAGING_URL", "ftp://elsewhere/staging")
    found = look(1)
    assert "ftp://elsewhere" in found["fail", "store staging"]
    assert ("ok", "store lake") in found


def test_files_that_others_may_read_are_named(good: Path, look: Callable[..., Found]) -> None:
    good.chmod(0o755)
    assert "chmod 700" in look(0)["warn", "files"]
    (good / "control.db").chmod(0o644)
    assert "control.db is open to others" in look(1)["fail", "files"]


@pytest.mark.parametrize(
    ("name", "value", "level"),
    [
        ("METRICS_FROM", '["0.0.0.0/0"]', "fail"),
        ("METRICS_FROM", '["8.8.0.0/16"]', "fail"),
        ("REVOCATION_POLL_S", "30", "fail"),
        ("REVOCATION_GRACE_S", "3600", "warn"),
        ("ACCESS_RETENTION_DAYS", "30", "warn"),
        ("ACCESS_FLUSH_S", "600", "warn"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:5000", "warn"),
    ],
)
def test_a_setting_that_weakens_is_named(  # noqa: PLR0917 - fixtures
    good: Path, look: Callable[..., Found], monkeypatch: pytest.MonkeyPatch, name: str, value: str, level: str
) -> None:
    monkeypatch.setenv(f"KAIMON_{name}", value)
    found = look()
    assert f"KAIMON_{name}" in found[level, "settings"]
    assert ("ok", "settings") not in found


def test_a_development_certificate_on_the_network_fails(
    good: Path, look: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAIMON_TLS_CERTIFICATE")
    monkeypatch.delenv("KAIMON_TLS_KEY")
    monkeypatch.setenv("KAIMON_HOST", "0.0.0.0")
    assert "KAIMON_HOST" in look(1)["fail", "settings"]


def test_what_breaks_a_check_is_a_finding_and_the_rest_is_looked_at(
    good: Path, look: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise PermissionError("/proc/swaps")

    monkeypatch.setattr(doctor.machine, "swap", broken)
    found = look(1)
    assert "PermissionError" in found["fail", "swap"]
    assert any(about == "clock" for _, about in found)


class Machine:
    """A machine of files: what it says of its mounts and block devices."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        number = folder.stat().st_dev
        self.name = f"{os.major(number)}:{os.minor(number)}"
        (root / "proc/self").mkdir(parents=True)
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "sys/class/block").mkdir(parents=True)
        self.mount("ext4", "/dev/sda1")

    def mount(self, kind: str, source: str) -> None:
        line = f"22 1 {self.name} / / rw,relatime - {kind} {source} rw\n"
        (self.root / "proc/self/mountinfo").write_text(line)

    def device(self, name: str, *slaves: str, crypt: bool = False) -> None:
        folder = self.root / "sys/devices" / name
        (folder / "slaves").mkdir(parents=True)
        for slave in slaves:
            (folder / "slaves" / slave).symlink_to(self.root / "sys/devices" / slave)
        if crypt:
            (folder / "dm").mkdir()
            (folder / "dm/uuid").write_text("CRYPT-LUKS2-1234-data\n")
            (folder / "dm/name").write_text("data\n")
        (self.root / "sys/class/block" / name).symlink_to(folder)

    def lies_on(self, name: str) -> None:
        (self.root / "sys/dev/block" / self.name).symlink_to(self.root / "sys/devices" / name)


@pytest.fixture
def fake(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root", tmp_path)


def level(tmp_path: Path, fake: Machine) -> tuple[str, str]:
    (found,) = machine.volumes({"home": tmp_path / "not" / "there"}, fake.root)
    return found.level, found.said


def test_a_luks_volume_is_encrypted_also_below_lvm(tmp_path: Path, fake: Machine) -> None:
    fake.device("sda1")
    fake.device("dm-0", "sda1", crypt=True)
    fake.device("dm-1", "dm-0")
    fake.lies_on("dm-1")
    assert level(tmp_path, fake) == ("ok", f"{tmp_path} is encrypted (dm-crypt data)")


def test_a_plain_disk_is_not_encrypted_nor_is_a_volume_of_which_a_part_is_plain(tmp_path: Path, fake: Machine) -> None:
    fake.device("sda1")
    fake.device("sdb1")
    fake.device("dm-0", "sda1", crypt=True)
    fake.device("dm-1", "dm-0", "sdb1")
    fake.lies_on("dm-1")
    found, said = level(tmp_path, fake)
    assert found == "warn"
    assert "not encrypted (block device sdb1)" in said


def test_what_cannot_be_told_is_said_so(tmp_path: Path, fake: Machine) -> None:
    fake.mount("overlay", "overlay")
    assert "cannot tell" in level(tmp_path, fake)[1]
    fake.mount("tmpfs", "tmpfs")
    assert "cannot tell" in level(tmp_path, fake)[1]


def test_a_file_system_with_numbers_of_its_own_is_judged_by_its_device(tmp_path: Path, fake: Machine) -> None:
    fake.device("dm-0", crypt=True)
    fake.mount("btrfs", "/dev/mapper/../dm-0")
    assert level(tmp_path, fake)[0] == "ok"
    fake.mount("fuse.gocryptfs", "/cipher")
    assert level(tmp_path, fake)[0] == "ok"


def test_swap_is_told_by_whether_it_is_encrypted(fake: Machine) -> None:
    fake.device("dm-0", crypt=True)
    fake.device("sdb2")
    head = "Filename\tType\tSize\tUsed\tPriority\n"
    cases = {"": "ok", "/dev/dm-0 partition 1 0 -2\n": "ok", "/dev/zram0 partition 1 0 -2\n": "ok"}
    cases |= {"/dev/sdb2 partition 1 0 -2\n": "warn", "/swapfile file 1 0 -2\n": "warn"}
    for line, wanted in cases.items():
        (fake.root / "proc/swaps").write_text(head + line)
        (found,) = machine.swap(fake.root)
        assert found.level == wanted, line


def test_core_dumps_that_somebody_keeps_are_told(fake: Machine) -> None:
    pattern = fake.root / "proc/sys/kernel/core_pattern"
    pattern.parent.mkdir(parents=True)
    pattern.write_text("|/usr/lib/systemd/systemd-coredump %P\n")
    (found,) = machine.core_dumps(fake.root)
    assert (found.level, "systemd-coredump" in found.said) == ("warn", True)


def test_a_clock_that_cannot_be_right_fails_and_one_that_nobody_keeps_is_told() -> None:
    def at(year: int) -> Callable[[], datetime]:
        return lambda: datetime(year, 5, 1, tzinfo=UTC)

    assert [found.level for found in machine.clock(at(1970))] == ["fail"]
    assert [found.level for found in machine.clock(at(2027), synchronized=True)] == ["ok"]
    assert [found.level for found in machine.clock(at(2027), synchronized=False)] == ["warn"]
    assert len(list(machine.clock())) == 1


@pytest.mark.parametrize(("free", "wanted"), [(0.5, "fail"), (5, "warn"), (50, "ok")])
def test_a_disk_that_fills_is_told_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, wanted: str
) -> None:
    gib = 1 << 30
    usage = shutil._ntuple_diskusage(100 * gib, int((100 - free) * gib), int(free * gib))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path: usage)
    (found,) = machine.room({"home": tmp_path})
    assert found.level == wanted
