"""What the agent says of itself on its Unix socket, while everything is as it should be and while it is not."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.root


def ask(path: Path, what: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"GET {what} HTTP/1.0\r\nHost: agent\r\n\r\n".encode())
        raw = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    head, _, body = raw.partition("\r\n\r\n")
    return int(head.split()[1]), body


def values(path: Path) -> dict[str, float]:
    code, text = ask(path, "/metrics")
    assert code == 200
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_well_agent_says_so_and_its_numbers_add_up(
    start: Callable[..., Any], sink: Any, tmp_path: Path, tokens: dict[str, str]
) -> None:
    path = tmp_path / "metrics.sock"
    agent = start("--metrics-socket", str(path))
    for number in range(50):
        (tmp_path / f"seen-{number}").touch()
    sink.wait(lambda s: any(row["path"].endswith("seen-49") for row in s.rows()))
    arrived = len(sink.batches)
    sink.wait(lambda s: len(s.batches) > arrived)  # so the agent knows what became of the ones before
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert ask(path, "/healthz") == (200, "healthy\n")
    assert ask(path, "/v1/batches")[0] == 404
    said = values(path)
    assert said["kaimon_agent_healthy"] == said["kaimon_agent_accepted"] == said["kaimon_agent_hardened"] == 1
    assert said["kaimon_agent_delivered_rows_total"] >= 50
    lost = sum(value for name, value in said.items() if name.startswith("kaimon_agent_lost_rows_total"))
    waits = said["kaimon_agent_rows_total"] - said["kaimon_agent_delivered_rows_total"] - lost
    assert 0 <= waits < 10_000
    assert said["kaimon_agent_seen_events_total"] > said["kaimon_agent_filtered_events_total"]
    assert said["kaimon_agent_lag_seconds"] < 30
    assert said["kaimon_agent_resident_bytes"] < 100 << 20
    assert said["kaimon_agent_mode/" + sink.batches[-1].header["capture_mode"]] == 1
    spots = {name.partition("/")[2] for name in said if name.startswith("kaimon_agent_blind_spot")}
    assert spots == set(sink.batches[-1].header["blind_spots"])
    text = ask(path, "/metrics")[1]
    header = sink.batches[-1].header
    for secret in (tokens["hst"][8:], str(tmp_path), header["agent_id"], header["hostname"], "acme"):
        assert secret not in text
    agent.stop()


@pytest.mark.parametrize("status", [401, 403])
def test_an_unwelcome_agent_keeps_its_rows_asks_again_and_says_so(
    status: int, start: Callable[..., Any], sink: Any, answer: Callable[..., Any], tmp_path: Path
) -> None:
    code = {401: "unauthorized", 403: "subscription_lapsed"}[status]
    sink.script = lambda _: answer(status, body={"code": code, "detail": "no"})
    path = tmp_path / "metrics.sock"
    agent = start("--metrics-socket", str(path), "--auth-retry", "300ms")
    marked = tmp_path / "meanwhile"
    marked.touch()
    agent.wait_said("not_welcome")
    sink.wait(lambda s: len(s.attempts) >= 3)
    assert len({digest for digest, _ in sink.attempts}) == 1, "a batch whose fate is open was cut anew"
    assert values(path)["kaimon_agent_accepted"] == 0
    assert ask(path, "/healthz") == (503, f"ingest does not accept this host ({status})\n")
    sink.script = lambda _: answer()
    sink.wait(lambda s: any(row["path"] == str(marked) for row in s.rows()))
    agent.wait_said("server_decides_again")
    assert values(path)["kaimon_agent_accepted"] == 1
    assert values(path)[f"kaimon_agent_answers_total/{status}"] >= 3
    agent.stop()
    sink.check()
    assert sum(sink.lost().values()) == 0


def test_a_refused_settings_file_is_no_secret(start: Callable[..., Any], tmp_path: Path) -> None:
    config, path = tmp_path / "agent.yaml", tmp_path / "metrics.sock"
    config.write_text(f"metrics_socket: {path}\n")
    config.chmod(0o600)
    agent = start("--config", str(config))
    config.write_text("metrics_sock: x\n")
    agent.wait_said("config_rejected")
    said = values(path)
    assert said["kaimon_agent_config_good"] == 0
    assert said["kaimon_agent_config_reloads_total/refused"] == 1
    assert ask(path, "/healthz") == (503, "the settings file was refused\n")
    agent.stop()


def test_the_next_agent_takes_the_socket_over(start: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    agent = start("--metrics-socket", str(path))
    agent.stop()
    again = start("--metrics-socket", str(path), enroll=False)
    assert values(path)["kaimon_agent_uptime_seconds"] < 60
    again.stop()
