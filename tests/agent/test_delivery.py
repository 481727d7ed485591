"""The real agent against a server that refuses, hangs up or is away; and what it keeps to itself."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
TESTS = Path(__file__).parent
AGENT = TESTS.parents[1] / "build" / "kaimon-agent"


def touch(folder: Path, name: str) -> str:
    path = folder / name
    path.touch()
    return str(path)


def created(sink: Any, path: str) -> int:
    return sum(row["path"] == path and row["operation"] == "create" for row in sink.rows())


def test_it_enrolls_once_and_says_who_it_is(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    agent = start()
    path = touch(tmp_path, "f")
    agent.stop()
    assert created(sink, path) == 1
    again = start(enroll=False)
    again.stop()
    [enrolled] = sink.enrolled
    headers = [batch.header for batch in sink.batches]
    assert enrolled["hostname"] == os.uname().nodename
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for header in headers:
        assert header["kind"] == "batch"
        assert header["agent_id"] == "agt_0123456789abcdef"
        assert header["hostname"] == os.uname().nodename
        assert header["boot_id"] == enrolled["boot_id"] == boot_id
        assert header["capture_mode"] == "sys_exit"
        assert "path_string_race" in header["blind_spots"]
        assert header["host"]["kernel"] == os.uname().release
        assert header["host"]["arch"] == os.uname().machine
        assert header["host"] == enrolled["host"]
    assert len({header["load_id"] for header in headers}) == 2
    version = tomllib.loads((TESTS.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert {header["agent_version"] for header in headers} == {version}
    state = agent.state
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "credential.json").stat().st_mode & 0o777 == 0o600


def test_no_secret_is_in_its_arguments_environment_or_log(
    start: Callable[..., Any], sink: Any, tokens: dict[str, str]
) -> None:
    agent = start("--log-level", "debug")
    proc = Path(f"/proc/{agent.process.pid}")
    said = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    agent.stop()
    said += b"".join(json.dumps(line).encode() for line in agent.said())
    assert b"capturing" in said
    for token in tokens.values():
        assert token[8:].encode() not in said


@pytest.mark.parametrize("given", ["refused", "mistyped", "none"])
def test_it_does_not_start_without_a_good_token(
    given: str, sink: Any, tmp_path: Path, tokens: dict[str, str], make_token: Callable[[str, str], str]
) -> None:
    token = {"refused": make_token("enr", "z"), "mistyped": tokens["enr"][:-1] + "!", "none": ""}[given]
    command = [AGENT, "run", "--server", sink.url, "--ca", sink.ca, "--state-dir", tmp_path / "state"]
    done = subprocess.run([*command, "--token-file", "-"], input=token.encode(), capture_output=True, timeout=20)
    assert done.returncode == 1
    assert not (tmp_path / "state" / "credential.json").exists()
    assert not token or token.encode() not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(done.stderr)["msg"] == "failed"


def test_it_waits_for_a_server_that_is_away_when_it_starts(start: Callable[..., Any], sink: Any) -> None:
    sink.stop()
    agent = start(ready=False)
    agent.wait_said("server_unreachable")
    sink.start()
    agent.wait_ready()
    agent.stop()
    sink.check()


def test_a_host_shows_up_long_before_its_first_heartbeat(start: Callable[..., Any], sink: Any) -> None:
    agent = start("--heartbeat", "10m", "--cut-interval", "10m")
    sink.wait(lambda s: len(s.batches) > 0)
    agent.stop()
    sink.check()


def test_silence_is_never_long(start: Callable[..., Any], sink: Any) -> None:
    agent = start("--heartbeat", "300ms", "--cut-interval", "10m")
    sink.wait(lambda s: len(s.batches) >= 4)
    agent.stop()
    sink.check()
    sent = [batch.header["sent_at"] for batch in sink.batches]
    assert max(later - earlier for earlier, later in itertools.pairwise(sent)) < 5_000_000


def test_every_answer_is_met_and_each_event_told_once(
    start: Callable[..., Any], sink: Any, answer: Callable[..., Any], tmp_path: Path
) -> None:
    open_fates = [answer(503, headers={"Retry-After": "0"}), answer(401), answer(hang_up=True, store=False)]
    open_fates += [answer(403), answer(504)]
    answers = iter([*open_fates, answer(413), answer(hang_up=True)])
    sink.script = lambda _: next(answers, answer())
    agent = start()
    paths = [touch(tmp_path, f"f{number}") for number in range(20)]
    sink.wait(lambda s: all(created(s, path) == 1 for path in paths))
    agent.stop()
    sink.check()
    assert [created(sink, path) for path in paths] == [1] * 20
    assert sum(sink.lost().values()) == 0
    first = [digest for digest, _ in sink.attempts[: len(open_fates) + 1]]
    assert len(set(first)) == 1, "a batch whose fate was open was cut anew"


def test_a_refused_batch_is_counted_and_the_chain_goes_on(
    start: Callable[..., Any], sink: Any, answer: Callable[..., Any], tmp_path: Path
) -> None:
    refused: list[Any] = []

    def script(batch: Any) -> Any:
        if batch.rows and not refused:
            refused.append(batch)
            return answer(400, body={"code": "malformed_body"})
        return answer()

    sink.script = script
    agent = start()
    touch(tmp_path, "f")
    sink.wait(lambda _: bool(refused))
    touch(tmp_path, "g")
    agent.stop(1)
    sink.check()
    assert sink.lost()["refused"] == len(refused[0].rows)
    assert "refused by the server" in agent.said()[-1]["error"]


def test_a_stop_without_a_server_says_what_was_not_delivered(
    start: Callable[..., Any], sink: Any, tmp_path: Path
) -> None:
    agent = start("--stop-timeout", "500ms")
    sink.stop()
    touch(tmp_path, "f")
    agent.stop(1)
    assert "not delivered" in agent.said()[-1]["error"]


def test_interrupt_is_as_good_as_terminate(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    agent = start()
    path = touch(tmp_path, "f")
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(20) == 0
    assert created(sink, path) == 1
    assert sink.batches[-1].header["final"] is True


def test_probe_says_the_mode_and_every_blind_spot() -> None:
    done = subprocess.run([AGENT, "probe", "--json"], capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert said["works"] is True
    assert said["mode"] == "sys_exit"
    assert all(spot["word"] and spot["why"] for spot in said["blind_spots"])
    text = subprocess.run([AGENT, "probe"], capture_output=True, check=True, text=True).stdout
    assert all(spot["word"] in text for spot in said["blind_spots"])


@pytest.mark.parametrize("arguments", [[], ["dance"], ["run"], ["run", "--server", "https://x"], ["probe", "--dance"]])
def test_a_wrong_command_line_is_explained(arguments: list[str]) -> None:
    done = subprocess.run([AGENT, *arguments], capture_output=True, timeout=20)
    assert done.returncode == 2
    assert done.stderr
