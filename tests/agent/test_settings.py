"""The settings file, with the real agent: read, refused, and taken anew while it runs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
AGENT = Path(__file__).resolve().parents[2] / "build" / "kaimon-agent"


def replace(path: Path, text: str) -> None:
    """Another file in its place, as editors and configuration management do it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.rename(path)


def test_a_file_gives_what_no_flag_says(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    replace(config, f"server: https://nowhere.invalid\nstate_dir: {tmp_path / 'state'}\nlog_level: debug\n")
    agent = start("--config", str(config))
    agent.wait_said("batch_delivered")  # said at debug only; the server's address came by flag
    agent.stop()
    sink.check()


@pytest.mark.parametrize("how", ["signal", "change"])
def test_a_running_agent_takes_new_settings(how: str, start: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    replace(config, "log_level: info\n")
    agent = start("--config", str(config))
    assert not any(line["level"] == "DEBUG" for line in agent.said())
    replace(config, "log_level: debug\nheartbeat: 7s\n")
    if how == "signal":
        agent.process.send_signal(signal.SIGHUP)
    agent.wait_said("config_reloaded")
    agent.wait_said("batch_delivered")
    replace(config, "log_levle: warn\n")
    agent.wait_said("config_rejected")
    replace(config, "log_level: error\n")
    agent.stop()
    reloads = [line for line in agent.said() if line["msg"].startswith("config_")]
    assert reloads[0]["changed"] == ["log_level"]
    [rejected] = [line for line in reloads if line["msg"] == "config_rejected"]
    assert 'agent.yaml:1: unknown key "log_levle"' in rejected["error"]


@pytest.mark.parametrize("flaw", ["world", "group", "owner", "folder", "key", "value"])
def test_a_bad_file_is_refused_before_anything_happens(flaw: str, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    config = folder / "agent.yaml"
    text = f"server: https://127.0.0.1:1\nstate_dir: {tmp_path / 'state'}\n"
    replace(config, text + {"key": "excludes: []\n", "value": "heartbeat: soon\n"}.get(flaw, ""))
    says = {
        "world": "writable by everybody",
        "group": "writable by group 12",
        "owner": "belongs to user 12",
        "folder": "writable by everybody",
        "key": 'agent.yaml:3: unknown key "excludes"',
        "value": "agent.yaml:3: heartbeat: must be a duration",
    }[flaw]
    if flaw == "world":
        config.chmod(0o666)
    elif flaw == "group":
        subprocess.run(["chown", ":12", config], check=True)
        config.chmod(0o660)
    elif flaw == "owner":
        subprocess.run(["chown", "12", config], check=True)
    elif flaw == "folder":
        folder.chmod(0o1777)
    done = subprocess.run([AGENT, "run", "--config", config], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "state").exists()


def test_settings_prints_what_holds(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    replace(config, "server: https://a\nstate_dir: /s\nheartbeat: 1m\n")
    command = [AGENT, "settings", "--config", config, "--server", "https://b"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "server: https://b" in said
    assert "heartbeat: 1m0s" in said


def test_enroll_uses_a_token_once_and_stops(sink: Any, tmp_path: Path, tokens: dict[str, str]) -> None:
    command = [AGENT, "enroll", "--server", sink.url, "--ca", sink.ca, "--state-dir", tmp_path / "state"]
    for said in ("enrolled", "already_enrolled"):
        done = subprocess.run(
            [*command, "--token-file", "-"], input=tokens["enr"].encode(), capture_output=True, timeout=20, check=True
        )
        assert json.loads(done.stderr)["msg"] == said
    assert len(sink.enrolled) == 1
    assert (tmp_path / "state" / "credential.json").stat().st_mode & 0o777 == 0o600


def test_enroll_that_is_interrupted_does_not_look_enrolled(sink: Any, tmp_path: Path, tokens: dict[str, str]) -> None:
    sink.stop()
    state = tmp_path / "state"
    command = [AGENT, "enroll", "--server", sink.url, "--ca", sink.ca, "--state-dir", state, "--token-file", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(tokens["enr"].encode())
        child.stdin.close()
        assert json.loads(child.stderr.readline())["msg"] == "server_unreachable"
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 1
    assert not (state / "credential.json").exists()


def test_a_sealed_agent_leaves_out_another_folder(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    config, folder = tmp_path / "agent.yaml", tmp_path / "scratch"
    folder.mkdir()
    replace(config, "collapse_window: 0\n")
    agent = start("--config", str(config))
    (folder / "before").touch()
    replace(config, f"collapse_window: 0\nexclude: [{folder}]\n")
    agent.wait_said("config_reloaded")
    (folder / "while").touch()
    replace(config, "collapse_window: 0\n")
    sink.wait(lambda _: len([line for line in agent.said() if line["msg"] == "config_reloaded"]) == 2)
    (folder / "after").touch()
    sink.wait(lambda s: any(row["path"] == str(folder / "after") for row in s.rows()))
    agent.stop()
    sink.check()
    told = {Path(row["path"]).name for row in sink.rows() if row["path"].startswith(f"{folder}/")}
    assert told == {"before", "after"}


def test_new_settings_that_cannot_be_applied_change_nothing(start: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    replace(config, "log_level: info\n")
    agent = start("--config", str(config))
    replace(config, f"log_level: debug\nexclude: [{tmp_path / 'no such folder'}]\n")
    agent.wait_said("config_rejected")
    agent.stop()
    assert not any(line["level"] == "DEBUG" for line in agent.said())
