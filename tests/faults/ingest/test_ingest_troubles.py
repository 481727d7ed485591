"""The store misbehaves, the disk fills up, the clock jumps, connections break: each event lands exactly once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from senders import Sender, assert_landed_exactly_once, enrolled_senders, keep_sending

from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings

DAY_S = 86_400
LEAST = 6
"""Batches of each host before a test is content."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home on a small disk of its own, if we may make one."""
    home = tmp_path_factory.mktemp("troubled") / "home"
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(home)], capture_output=True)
    yield home
    if mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.fixture(scope="module")
def server(disk: Path, wire: ModuleType) -> Iterator[Any]:
    """One server whose store and clock do as `be` tells them."""
    be(disk)
    command = [sys.executable, str(Path(__file__).with_name("troubled_ingest.py"))]
    made = wire.Server(disk, disk.with_name("log"), command, commit_linger_ms=20, patience_s=0.5, put_retry_s=0.05)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def database(server: Any) -> Iterator[Database]:
    opened = open_database(TenancySettings(home=server.home))
    yield opened
    opened.close()


def be(home: Path, store: str = "", clock_s: int = 0) -> None:
    """Tell the server how to misbehave from now on."""
    new = home / "trouble.new"
    new.write_text(json.dumps({"store": store, "clock_s": clock_s}))
    new.replace(home / "trouble")


def refusals(senders: list[Sender]) -> Counter[int]:
    return sum((sender.refused for sender in senders), start=Counter())


def in_the_background(do: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=do)
    thread.start()
    return thread


@pytest.mark.parametrize("store", ["stalls", "fails", "loses answers", "does it twice"])
def test_a_store_that_misbehaves_costs_time_and_no_event(
    database: Database, server: Any, wire: ModuleType, store: str
) -> None:
    senders = enrolled_senders(database, wire, store.replace(" ", "-"))
    be(server.home, store)
    try:
        keep_sending(server, senders, lambda: min(sender.answered for sender in senders) >= LEAST)
    finally:
        be(server.home)
    # That it exists already, with the same bytes, is what a store says that did it twice: that is success.
    if store != "does it twice":
        assert set(refusals(senders)) == {503}
    assert_landed_exactly_once(database, server.home, senders)


def test_a_clock_that_jumps_a_day_ahead_and_a_day_back_loses_and_doubles_nothing(
    database: Database, server: Any, wire: ModuleType
) -> None:
    senders = enrolled_senders(database, wire, "jumping")
    jumps = iter([DAY_S, 0, -DAY_S, 0])
    done = threading.Event()

    def jump() -> None:
        for clock_s in jumps:
            be(server.home, clock_s=clock_s)
            before = [sender.answered for sender in senders]
            wire.wait_until(
                lambda before=before: all(  # type: ignore[misc]
                    sender.answered >= was + 2 for sender, was in zip(senders, before, strict=True)
                ),
                "two more batches of everybody",
                60,
            )

    def jump_then_end() -> None:
        try:
            jump()
        finally:
            be(server.home)
            done.set()

    jumping = in_the_background(jump_then_end)
    keep_sending(server, senders, done.is_set)
    jumping.join()
    assert next(jumps, None) is None
    # A machine that is busy may be slower than these hosts' patience.
    assert set(refusals(senders)) <= {503}
    ledger = assert_landed_exactly_once(database, server.home, senders)
    # What makes the jumps worth their test: they were seen, on other days than today.
    assert len(set(ledger["received_at"].dt.date())) >= 3
    assert ledger["quarantined"].sum() > 0


def test_connections_that_break_in_the_middle_of_a_body_lose_and_double_nothing(
    database: Database, server: Any, wire: ModuleType
) -> None:
    senders = enrolled_senders(database, wire, "cut-off")
    keep_sending(server, senders, lambda: min(sender.answered for sender in senders) >= LEAST, cuts=0.7)
    assert sum(sender.cuts for sender in senders) > LEAST
    # A machine that is busy may be slower than these hosts' patience.
    assert set(refusals(senders)) <= {503}
    ledger = assert_landed_exactly_once(database, server.home, senders)
    assert set(ledger["outcome"]) == {"landed"}
    wire.wait_until(lambda: "kaimon_ingest_admitted_bytes 0.0" in server.client.get("/metrics").text, "all memory back")


def test_a_full_disk_refuses_batches_until_there_is_room_and_loses_none(
    database: Database, server: Any, wire: ModuleType
) -> None:
    if not os.path.ismount(server.home):
        pytest.skip("needs root, to mount a small disk")
    senders = enrolled_senders(database, wire, "full")
    ballast = server.home / "ballast"
    seen: list[int] = []

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def make_room() -> None:
        try:
            wire.wait_until(lambda: all(sender.refused[503] for sender in senders), "everybody to be refused", 60)
            seen.append(server.client.get("/readyz").status_code)
        finally:
            ballast.unlink()

    wire.wait_until(lambda: all(sender.send(server) for sender in senders), "a first contact")
    fill()
    waiting = in_the_background(make_room)
    keep_sending(server, senders, lambda: not ballast.exists())
    waiting.join()
    assert seen == [503]
    assert set(refusals(senders)) == {503}
    wire.wait_until(lambda: server.client.get("/readyz").status_code == 200, "ingest to be ready again")
    assert_landed_exactly_once(database, server.home, senders)
