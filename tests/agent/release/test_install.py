"""install.sh against a real release and an ingest that answers: what it installs, what it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BINARY, SETTINGS = "usr/local/bin/kaimon-agent", "etc/kaimon/agent.yaml"
UNIT, STATE = "etc/systemd/system/kaimon-agent.service", "var/lib/kaimon-agent"
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the release of these tests is tried on x86_64")


def test_it_installs_what_was_signed_and_enrolls_the_host(installer: Any, release: Any, tokens: Any) -> None:
    seen: list[bytes] = []
    receive = installer.sink.receive

    def look(path: str, headers: Any, body: bytes) -> Any:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                seen.append((process / "cmdline").read_bytes() + (process / "environ").read_bytes())
        return receive(path, headers, body)

    installer.sink.receive = look
    said = installer.run(*installer.to_sink())
    root = installer.root
    assert installer.files() == {
        BINARY,
        UNIT,
        SETTINGS,
        "etc/kaimon/ca.pem",
        f"{STATE}/credential.json",
        f"{STATE}/lock",
    }
    assert (root / BINARY).read_bytes() == release.binary().read_bytes()
    modes = {BINARY: 0o755, SETTINGS: 0o640, UNIT: 0o644, STATE: 0o700, f"{STATE}/credential.json": 0o600}
    assert {name: (root / name).stat().st_mode & 0o777 for name in modes} == modes
    assert "ExecStart=/usr/local/bin/kaimon-agent " in (root / UNIT).read_text()
    assert "/usr/bin/kaimon-agent" not in (root / UNIT).read_text()
    assert len(installer.sink.enrolled) == 1
    assert f"verified: kaimon-agent {release.version}" in said
    # The token went from standard input to the server, and nowhere else.
    assert any(b"--token-file" in one for one in seen)
    token = tokens["enr"][8:].encode()
    assert not [one for one in seen if token in one]
    assert not [name for name in installer.files() if token in (root / name).read_bytes()]

    checked = subprocess.run(
        [root / BINARY, "settings", "--config", root / SETTINGS], capture_output=True, text=True, check=True
    )
    assert f"server: {installer.sink.url}\n" in checked.stdout
    assert "ca_file: /etc/kaimon/ca.pem\n" in checked.stdout


class Tampering:
    """What somebody in the middle could do to a release; `mark` is what would be there if his program had run."""

    def __init__(self, release: Any, folder: Path) -> None:
        self.good, self.folder = release, folder
        self.bad = release.copy(folder / "bad")
        self.mark = folder / "it ran"
        self.program, self.sums = self.bad.binary(), self.bad.folder / "SHA256SUMS"
        self.signature = self.bad.folder / "SHA256SUMS.sig"

    def a_flipped_bit_of_the_signature(self) -> None:
        raw = self.signature.read_bytes()
        self.signature.write_bytes(raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])

    def no_signature(self) -> None:
        self.signature.unlink()

    def a_changed_list(self) -> None:
        self.sums.write_text(self.sums.read_text() + "\n")

    def a_truncated_program(self) -> None:
        self.program.write_bytes(self.program.read_bytes()[:-1])

    def another_program(self) -> None:
        self.program.write_text(f"#!/bin/sh\n: >'{self.mark}'\n")

    def another_program_in_the_list(self) -> None:
        before = hashlib.sha256(self.program.read_bytes()).hexdigest()
        self.another_program()
        after = hashlib.sha256(self.program.read_bytes()).hexdigest()
        self.sums.write_text(self.sums.read_text().replace(before, after))

    def a_list_signed_by_a_stranger(self) -> None:
        self.another_program_in_the_list()
        self.bad.sign("SHA256SUMS", self.good.new_key(self.folder / "stranger.pem"))

    def another_file_of_the_release_as_the_program(self) -> None:
        shutil.copy(self.bad.folder / "install.sh", self.program)
        self.bad.sign(self.program.name)

    def the_other_architectures_program(self) -> None:
        shutil.copy(self.bad.binary("arm64"), self.program)

    def other_settings(self) -> None:
        (self.bad.folder / "agent.yaml").write_text("server: https://evil\n")

    def another_unit(self) -> None:
        (self.bad.folder / "kaimon-agent.service").write_text("[Service]\nExecStart=/bin/evil\n")

    def no_program_in_the_list(self) -> None:
        kept = [line for line in self.sums.read_text().splitlines() if self.program.name not in line.split()]
        self.sums.write_text("\n".join(kept) + "\n")
        self.bad.sign("SHA256SUMS")


@pytest.mark.parametrize("how", [name for name in vars(Tampering) if not name.startswith("_")])
def test_what_was_not_signed_is_refused_and_never_runs(how: str, installer: Any, release: Any, tmp_path: Path) -> None:
    tampering = Tampering(release, tmp_path)
    getattr(tampering, how)()
    said = installer.run(*installer.to_sink(), code=1, release=tampering.bad)
    assert "verified" not in said
    assert "refused: " in said or "no SHA256SUMS.sig" in said or "the release has no" in said
    assert installer.nothing_is_there()
    assert installer.sink.enrolled == []
    assert not tampering.mark.exists()


def test_what_is_signed_does_run(installer: Any, release: Any, tmp_path: Path) -> None:
    """The counterpart of the test above: the same program runs where the signature is good."""
    tampering = Tampering(release, tmp_path)
    tampering.another_program_in_the_list()
    tampering.bad.sign("SHA256SUMS")
    installer.run(*installer.to_sink(), code=1, release=tampering.bad)
    assert tampering.mark.exists()


@pytest.mark.parametrize("given", ["refused", "mistyped", "none"])
def test_a_bad_token_leaves_nothing_behind(given: str, installer: Any, make_token: Callable[..., str]) -> None:
    token = {"refused": make_token("enr", "z"), "mistyped": installer.token[:-1] + "!", "none": ""}[given]
    said = installer.run(*installer.to_sink(), token=token, code=1)
    assert "not enrolled; nothing is installed" in said
    assert not token or token not in said
    assert installer.nothing_is_there()


ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def test_the_token_is_asked_for_on_the_terminal_and_not_shown(installer: Any) -> None:
    command = installer.command("--server", installer.sink.url, "--ca", installer.sink.ca)
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        shown = b""
        while not shown.endswith(b"(not shown): "):
            more = process.stdout.read1()
            assert more, shown
            shown += more
        process.stdin.write(installer.token.encode() + b"\n")
        process.stdin.flush()
        shown += process.stdout.read()
    assert process.wait(60) == 0, shown
    assert installer.token.encode() not in shown
    assert len(installer.sink.enrolled) == 1
    assert (installer.root / STATE / "credential.json").exists()


def test_without_a_terminal_or_a_word_nobody_waits_for_a_token(installer: Any) -> None:
    command = installer.command("--server", installer.sink.url, "--ca", installer.sink.ca)
    done = subprocess.run(
        command, input=installer.token, capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert done.returncode == 1
    assert "--token-stdin" in done.stderr
    assert installer.nothing_is_there()


def test_an_upgrade_keeps_settings_and_credential_and_asks_for_no_token(installer: Any, tmp_path: Path) -> None:
    installer.run(*installer.to_sink())
    settings = installer.root / SETTINGS
    settings.write_text(settings.read_text() + "exclude: [/srv/mine]\n")
    before = {name: (installer.root / name).read_bytes() for name in installer.files()}
    (installer.root / BINARY).write_text("an old one")
    said = installer.run("--token-stdin", token="")
    assert "installed and enrolled" in said
    assert {name: (installer.root / name).read_bytes() for name in installer.files()} == before
    assert len(installer.sink.enrolled) == 1
    assert "names another server" in installer.run("--server", "https://other.example", code=1)
    assert {name: (installer.root / name).read_bytes() for name in installer.files()} == before


def test_it_can_install_now_and_enroll_later(installer: Any) -> None:
    said = installer.run("--server", "https://ingest.example:443", "--no-enroll")
    assert "kaimon-agent enroll" in said
    assert installer.files() == {BINARY, UNIT, SETTINGS}


@pytest.mark.parametrize(
    "wrong",
    [
        [], ["--dance"], ["--server"], ["--server", "http://x"], ["--server", "https://x y"], ["--purge"],
        ["--server", "https://x", "--from", "http://127.0.0.1:9"], ["--server", "https://x", "--from", "/nowhere"],
        ["--server", "https://x", "--version", "../1"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_does_nothing(wrong: list[str], installer: Any) -> None:
    installer.run(*wrong, code=2)
    assert installer.nothing_is_there()


def test_the_script_of_the_repository_trusts_nobody_until_it_is_told(
    installer: Any, release: Any, tmp_path: Path
) -> None:
    shutil.copy(Path(__file__).parents[3] / "deploy/agent/install.sh", tmp_path / "install.sh")
    bare = type(release)(tmp_path, release.key)
    arguments = ["--from", release.folder, *installer.to_sink()]
    assert "trusts no key" in installer.run(*arguments, code=2, release=bare)
    assert "belongs to no release" in installer.run(*arguments, "--key", release.public, code=2, release=bare)
    assert installer.nothing_is_there()
    installer.run(*arguments, "--key", release.public, "--version", release.version, release=bare)
    assert (installer.root / BINARY).exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_half_a_script_does_nothing(share: float, installer: Any, release: Any, tmp_path: Path) -> None:
    whole = (release.folder / "install.sh").read_text().rstrip("\n")
    cut = release.copy(tmp_path / "cut")
    (cut.folder / "install.sh").write_text(whole[: min(int(len(whole) * share), len(whole) - 1)])
    done = subprocess.run(
        installer.command(*installer.to_sink(), release=cut), input=installer.token, capture_output=True, text=True
    )
    assert "verified" not in done.stderr
    assert installer.nothing_is_there()
    assert installer.sink.enrolled == []


def test_an_interrupted_installation_leaves_nothing(installer: Any) -> None:
    installer.sink.stop()  # so that it waits for the server
    process = subprocess.Popen(
        installer.command(*installer.to_sink()),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(installer.token)
    process.stdin.close()
    deadline = time.monotonic() + 60
    while "server_unreachable" not in (line := process.stderr.readline()):
        assert line, "it ended by itself"
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGINT)
    process.stderr.read()
    process.stderr.close()
    assert process.wait(30) != 0
    assert installer.nothing_is_there()


def test_the_pinned_key_is_the_releases(release: Any) -> None:
    script = (release.folder / "install.sh").read_text()
    assert release.public.read_text() in script
    assert f"\nversion={release.version}\n" in script
    assert "UNSET-KEY" not in script
    assert json.dumps(release.version) not in (Path(__file__).parents[3] / "deploy/agent/install.sh").read_text()
