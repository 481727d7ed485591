"""Repeats of one process on one file become one row, and none of them gets lost or told under another's name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
Row = dict[str, Any]


def run(code: str, *arguments: Path | str) -> int:
    child = subprocess.Popen([sys.executable, "-c", code, *arguments])
    assert child.wait(60) == 0
    return child.pid


def rows_of(sink: Any, pid: int, path: Path) -> list[Row]:
    found = [row for row in sink.rows() if row["pid"] == pid and row["path"] == str(path)]
    return sorted(found, key=lambda row: (row["cpu"], row["seq"]))


def counts(rows: list[Row], operation: str, access: str | None = None) -> int:
    return sum(row["count"] for row in rows if row["operation"] == operation and access in (None, row.get("access")))


def test_repeats_are_collapsed_and_every_one_is_counted(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    agent = start("--collapse-window", "1s")
    file = tmp_path / "again"
    code = """if 1:
        import os, sys
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.close(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600))
        for _ in range(1000):
            fd = os.open(sys.argv[1], os.O_WRONLY); os.write(fd, b"x"); os.write(fd, b"y"); os.close(fd)
            os.close(os.open(sys.argv[1], os.O_RDONLY))
        """
    pid = run(code, file)
    agent.stop()
    sink.check()
    rows = rows_of(sink, pid, file)
    assert counts(rows, "create") == 1
    assert counts(rows, "open", "write") == counts(rows, "open", "read") == 1000
    assert counts(rows, "write") == 2000
    assert len(rows) < 100, "a thousand repeats within a second or so are a handful of rows"
    for row in rows:
        assert ("last_time" in row) == (row["count"] > 1)
        assert row.get("last_time", row["time"]) >= row["time"]
        assert row["path_status"] == "resolved"
        assert row["result"] == 0
    assert all(c["pending"] == 0 for c in sink.batches[-1].header["cpus"]), "a goodbye leaves nothing pending"


def test_a_first_occurrence_is_told_at_once_and_the_rest_when_its_window_ends(
    start: Callable[..., Any], sink: Any, tmp_path: Path
) -> None:
    agent = start("--collapse-window", "1s", "--cut-interval", "100ms")
    file = tmp_path / "waits"
    code = """if 1:
        import os, sys
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)
        for _ in range(5):
            os.write(fd, b"x")
        sys.stdin.read()
        """
    child = subprocess.Popen([sys.executable, "-c", code, file], stdin=subprocess.PIPE)
    sink.wait(lambda s: counts(rows_of(s, child.pid, file), "write") == 5)
    rows = [row for row in rows_of(sink, child.pid, file) if row["operation"] == "write"]
    assert [row["count"] for row in rows] == [1, 4]
    child.communicate()
    agent.stop()
    sink.check()


def test_a_window_holds_one_name_one_user_and_one_program(start: Callable[..., Any], sink: Any, anyones: Path) -> None:
    agent = start("--collapse-window", "1s")
    code = """if 1:
        import os, sys
        at = sys.argv[1]
        def touch(name): os.close(os.open(at + name, os.O_RDWR))
        os.close(os.open(at + "/a", os.O_CREAT | os.O_WRONLY, 0o666)); os.chmod(at + "/a", 0o666)
        touch("/a"); touch("/a")
        os.rename(at + "/a", at + "/b")
        touch("/b"); touch("/b")
        os.link(at + "/b", at + "/c")
        touch("/c"); touch("/b")
        os.setuid(65534)
        touch("/b"); touch("/b")
        os.execv("/bin/sh", ["sh", "-c", "exec 3<>" + at + "/b; exec 3<>" + at + "/b"])
        """
    folder = anyones / "names"
    folder.mkdir()
    folder.chmod(0o777)
    pid = run(code, str(folder))
    agent.stop()
    sink.check()

    def told(name: str, **want: Any) -> int:
        found = rows_of(sink, pid, folder / name)
        return sum(r["count"] for r in found if r["operation"] == "open" and want.items() <= r.items())

    python, shell = os.path.realpath(sys.executable), os.path.realpath("/bin/sh")
    assert told("a", exe=python, uid=0) == 2
    assert told("b", exe=python, uid=0) == 3
    assert told("c", exe=python, uid=0) == 1
    assert told("b", exe=python, uid=65534) == 2
    assert told("b", exe=shell, uid=65534) == 2
    assert told("b") == 7


def test_only_what_is_asked_for_is_captured_and_sensitive_opens_always_are(
    start: Callable[..., Any], sink: Any, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "not" / "but").mkdir(parents=True)
    outside.mkdir()
    for folder in (inside, outside, inside / "not", inside / "not" / "but"):
        (folder / "plain").touch()
        (folder / "id_rsa").touch()
        (folder / "tls.pem").touch()
    agent = start(
        "--collapse-window", "1s", "--include", str(inside), "--exclude", str(inside / "not"),
        "--include", str(inside / "not" / "but"), "--sensitive", "id_rsa", "--sensitive", "*.pem",
    )  # fmt: skip
    code = """if 1:
        import os, sys
        for folder in ("inside", "outside", "inside/not", "inside/not/but"):
            for name in ("plain", "id_rsa", "tls.pem"):
                for _ in range(3):
                    os.close(os.open(os.path.join(sys.argv[1], folder, name), os.O_RDONLY))
            os.rename(os.path.join(sys.argv[1], folder, "plain"), os.path.join(sys.argv[1], folder, "moved"))
        os.chdir(sys.argv[1])
        os.unlink("inside/moved"); os.unlink("outside/moved")
        """
    pid = run(code, str(tmp_path))
    agent.stop()
    sink.check()
    told = {
        (row["operation"], row["path"].removeprefix(f"{tmp_path}/")): 0
        for row in sink.rows()
        if row["pid"] == pid and row["path"].startswith(f"{tmp_path}/")
    }
    for row in sink.rows():
        key = (row["operation"], row["path"].removeprefix(f"{tmp_path}/"))
        if row["pid"] == pid and key in told:
            told[key] += row["count"]
    want = {("open", f"{folder}/{name}"): 3
            for folder in ("inside", "outside", "inside/not", "inside/not/but") for name in ("id_rsa", "tls.pem")}  # fmt: skip
    want |= {("open", f"{folder}/plain"): 3 for folder in ("inside", "inside/not/but")}
    want |= {("rename", f"{folder}/plain"): 1 for folder in ("inside", "inside/not/but")}
    # A relative string that starts above an included folder may lead into it: it is kept rather than guessed.
    want |= {("delete", "inside/moved"): 1, ("delete", "outside/moved"): 1}
    assert told == want


def test_programs_are_left_out_by_their_file(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    (tmp_path / "id_rsa").touch()
    agent = start("--exclude-process", "/bin/cat", "--sensitive", "id_rsa")
    subprocess.run(["/bin/cp", "/etc/hostname", tmp_path / "f"], check=True)
    subprocess.run(["/bin/cat", tmp_path / "f", tmp_path / "id_rsa"], check=True, stdout=subprocess.DEVNULL)
    agent.stop()
    sink.check()
    rows = [row for row in sink.rows() if row["path"].startswith(str(tmp_path))]
    assert {(row["process"], Path(row["path"]).name) for row in rows if row["process"] in ("cat", "cp")} == {
        ("cp", "f"),
        ("cat", "id_rsa"),
    }
