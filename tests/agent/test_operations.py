"""What the agent says of each operation, however it is done: each once, with the right path, user and process."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaimon.base.escape import unescape

DEEDS = Path(__file__).with_name("deeds.py")
pytestmark = pytest.mark.root
Row = dict[str, Any]


def below(rows: list[Row], folder: Path, pid: int | None = None) -> list[Row]:
    """Rows about files below a folder, in the order in which things happened."""
    prefix = str(folder)
    mine = [
        row
        for row in rows
        if (pid is None or row["pid"] == pid)
        and (row["path"].startswith(prefix) or row["path"].startswith("…/") or prefix in row.get("target_path", ""))
    ]
    return sorted(mine, key=lambda row: row["monotonic_ns"])


def same(row: Row, want: Row) -> bool:
    got = {**row, "path": unescape(row["path"])}
    want = {**want, "path": bytes.fromhex(want["path"])}
    for end in (got, want):
        if end.get("target_path") is not None:
            raw = end["target_path"]
            end["target_path"] = unescape(raw) if end is got else bytes.fromhex(raw)
    if want.pop("loose", False):
        full, said = want.pop("path"), got["path"]
        status = want.pop("path_status")
        mark = "…".encode()
        whole = said == full and got["path_status"] in ("requested", "resolved")
        cut = said.startswith(mark + b"/") and full.endswith(said[len(mark) :]) and got["path_status"] == status
        if not (whole or (cut and said.count(b"/") >= 256)):
            return False
    return all(got.get(key) == value for key, value in want.items())


def test_every_operation_is_told_once_however_it_is_done(start: Callable[..., Any], sink: Any, anyones: Path) -> None:
    folder = anyones / "deeds"
    folder.mkdir()
    agent = start()
    began = time.time()
    child = subprocess.Popen([sys.executable, DEEDS, folder], stdout=subprocess.PIPE)
    assert child.stdout is not None
    expected = [json.loads(line) for line in child.stdout.read().splitlines()]
    child.stdout.close()
    assert child.wait(60) == 0
    agent.stop()
    sink.check()
    assert sink.lost() == dict.fromkeys(sink.lost(), 0)

    rows = [row for row in below(sink.rows(), folder, child.pid) if "/proc/self/fd/" not in row["path"]]
    for number, (row, want) in enumerate(zip(rows, expected, strict=False)):
        assert same(row, want), (
            f"row {number}:\n{json.dumps(row)}\nis not\n{json.dumps(want)}\n{bytes.fromhex(want['path'])!r}"
        )
    assert len(rows) == len(expected), (rows[len(expected) :], expected[len(rows) :])
    linked = [row for row in sink.rows() if row["pid"] == child.pid and "/proc/self/fd/" in row["path"]]
    assert [(row["operation"], row["target_path"]) for row in linked] == [("link", f"{folder}/tmpfile")]

    for row in rows:
        assert (row["process"], row["ppid"], row["parent_process"]) == ("python", os.getpid(), comm(os.getpid()))
        assert row["exe"] == os.path.realpath(sys.executable)
        assert (row["uid"], row["euid"], row["gid"], row["user"]) == (0, 0, 0, "root")
        assert row["count"] == 1
        assert row["mount_ns"] == Path("/proc/self/ns/mnt").stat().st_ino
        assert began - 1 < row["time"] / 1e6 < time.time() + 1
        assert began - 1 < row["process_start"] / 1e6 <= row["time"] / 1e6
    assert len({row["process_start"] for row in rows}) == 1


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


def test_programs_that_live_a_millisecond_are_named(start: Callable[..., Any], sink: Any, anyones: Path) -> None:
    agent = start()
    user = pwd.getpwnam("nobody")
    folder = anyones / "short"
    folder.mkdir()
    folder.chmod(0o777)
    script = f"for i in $(seq 50); do touch {folder}/f$i; done; cat < {folder}/f1 > {folder}/copy"
    subprocess.run(["sh", "-c", script], check=True, user=user.pw_uid, group=user.pw_gid, extra_groups=[])
    agent.stop()
    sink.check()
    touched = {row["path"]: row for row in below(sink.rows(), folder) if row["process"] == "touch"}
    assert len(touched) == 50
    for row in touched.values():
        assert (row["operation"], row["user"], row["uid"]) == ("create", "nobody", user.pw_uid)
        assert row["exe"] == os.path.realpath(shutil.which("touch") or "")
        assert row["parent_process"] == "sh"
    by_shell = [row for row in below(sink.rows(), folder) if row["path"].endswith("/copy")]
    assert {row["operation"] for row in by_shell} >= {"create"}
    assert all(row["exe"] in {os.path.realpath("/bin/sh"), os.path.realpath("/bin/cat")} for row in by_shell)


def test_a_chroot_and_another_mount_namespace_are_told_honestly(
    start: Callable[..., Any], sink: Any, tmp_path: Path
) -> None:
    agent = start()
    folder = tmp_path / "jail"
    (folder / "in").mkdir(parents=True)
    code = """if 1:
        import os, sys
        os.chroot(sys.argv[1]); os.chdir("/in")
        os.close(os.open("/in/f", os.O_CREAT | os.O_WRONLY)); os.rename("/in/../in/f", "g"); os.unlink("../in/g")
        os.unlink("/nothing") if os.path.exists("/nothing") else None
        """
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    code = """if 1:
        import ctypes, os, sys
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x20000) == 0
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
        assert libc.mount(b"none", sys.argv[1].encode(), b"tmpfs", 0, None) == 0
        os.close(os.open(sys.argv[1] + "/apart", os.O_CREAT | os.O_WRONLY)); os.unlink(sys.argv[1] + "/apart")
        """
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    agent.stop()
    sink.check()
    rows = [row for row in below(sink.rows(), folder) if row["process"] == "python"]
    said = [(row["operation"], row["path"], row["path_status"]) for row in rows if row["operation"] != "open"]
    assert said == [
        ("create", f"{folder}", "requested"),
        ("create", f"{folder}/in", "requested"),
        ("create", f"{folder}/in/f", "resolved"),
        ("rename", f"{folder}/in/f", "requested"),
        ("delete", f"{folder}/in/g", "unresolved"),
        ("create", f"{folder}/apart", "namespace"),
        ("delete", f"{folder}/apart", "namespace"),
    ]
    assert rows[-1]["mount_ns"] != rows[0]["mount_ns"]


def test_an_overlays_file_is_told_once_with_the_inode_that_holds_it(
    start: Callable[..., Any], sink: Any, anyones: Path
) -> None:
    folder = anyones / "layers"
    code = """if 1:
        import ctypes, os, sys
        folder = sys.argv[1]
        for name in ("", "lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(folder, name))
        with open(folder + "/lower/old", "w") as file:
            file.write("x")
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x20000) == 0
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        if libc.mount(b"overlay", (folder + "/merged").encode(), b"overlay", 0, options.encode()) != 0:
            sys.exit(77)
        print(end=".", flush=True)  # the file system is known from here on; the agent looks for it now and then
        sys.stdin.readline()
        for name in ("old", "new"):
            with open(f"{folder}/merged/{name}", "a") as file:
                file.write("y")
            print(os.stat(f"{folder}/upper/{name}").st_ino)
        """
    with subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.read(1) != ".":
            pytest.skip("overlayfs cannot be mounted here")
        agent = start()
        child.stdin.write("\n")
        child.stdin.close()
        held = dict(zip(("old", "new"), map(int, child.stdout.read().split()), strict=True))
        assert child.wait(30) == 0
    agent.stop()
    sink.check()
    rows = [row for row in sink.rows() if row["pid"] == child.pid and row["operation"] == "write"]
    assert [(row["path"], row["inode"]) for row in rows] == [
        (f"{folder}/merged/{name}", inode) for name, inode in held.items()
    ]


def test_its_own_files_and_excluded_folders_are_absent_and_nothing_hides_behind_dots(
    start: Callable[..., Any], sink: Any, tmp_path: Path
) -> None:
    left_out, other = tmp_path / "out", tmp_path / "other"
    left_out.mkdir()
    other.mkdir()
    agent = start("--exclude", str(left_out))
    code = """if 1:
        import os, sys
        out, other = sys.argv[1:]
        def touch(p): os.close(os.open(p, os.O_CREAT | os.O_WRONLY))
        os.chdir(out)
        touch("a"); touch(out + "/b"); os.rename("a", "c"); os.rename(out + "/b", out + "/d"); os.mkdir("e")
        os.chmod("c", 0o600); os.unlink(out + "/c"); os.rmdir(out + "/e"); touch(out + "/../out/f")
        touch("../other/1"); os.unlink("../other/1")          # out of it, behind its back
        touch(other + "/2"); os.rename(other + "/2", out + "/g"); os.rename("g", other + "/3")
        os.unlink(out + "/../other/3"); os.unlink("./../out/f")
        os.mkdir(out + "side"); os.rmdir(out + "side")
        """
    child = subprocess.Popen([sys.executable, "-c", code, left_out, other])
    assert child.wait(30) == 0
    (agent.state / "mine").write_text("x")
    agent.stop()
    sink.check()
    said = [
        (
            row["operation"],
            row["path"].removeprefix(str(tmp_path)),
            row.get("target_path", "").removeprefix(str(tmp_path)),
        )
        for row in below(sink.rows(), tmp_path, child.pid)
    ]
    assert said == [
        ("create", "/other/1", ""),
        ("delete", "/other/1", ""),
        ("create", "/other/2", ""),
        ("rename", "/other/2", "/out/g"),
        ("rename", "/out/g", "/other/3"),
        ("delete", "/other/3", ""),
        ("delete", "/out/f", ""),
        ("create", "/outside", ""),
        ("delete", "/outside", ""),
    ]
    assert not [row for row in sink.rows() if row["pid"] == agent.process.pid]
    assert not [row for row in sink.rows() if row["path"].startswith(str(agent.state) + "/")]
    assert sum(c["filtered"] for c in sink.batches[-1].header["cpus"]) > 0
