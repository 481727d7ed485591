"""A load generator in a process of its own: sends ready requests over TLS and takes the time to each answer."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What came of a load: answers by status, seconds to each answer, and seconds in all."""

    statuses: dict[int, int]
    latencies_s: list[float]
    took_s: float


async def _connect(port: int, ca: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    trust = ssl.create_default_context(cafile=str(ca))
    return await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    start = lower.index(b"content-length:") + 15
    await reader.readexactly(int(lower[start : lower.index(b"\r\n", start)]))
    return int(head[9:12])


async def _drive(
    port: int, ca: Path, requests: list[bytes], connections: int, rate: float | None, *, most_s: float = inf
) -> Outcome:
    statuses: dict[int, int] = {}
    latencies: list[float] = []
    waiting = iter(enumerate(requests))
    opened = [await _connect(port, ca) for _ in range(connections)]
    began = time.perf_counter()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, request in waiting:
            if time.perf_counter() - began > most_s:
                break
            due = began + number / rate if rate else time.perf_counter()
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            status = await _exchange(reader, writer, request)
            statuses[status] = statuses.get(status, 0) + 1
            # From when it was due: a generator that comes late must not flatter the server.
            latencies.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(one(*pair) for pair in opened))
    return Outcome(statuses, latencies, time.perf_counter() - began)


def drive(port: int, ca: Path, requests: list[bytes], connections: int, rate: float | None = None) -> Outcome:
    """Send every request once and return what came of it.

    Args:
        port: of the server on this machine.
        ca: what to trust.
        requests: whole HTTP requests.
        connections: how many are in flight at most.
        rate: requests a second; as fast as the answers come if not given.
    """
    return asyncio.run(_drive(port, ca, requests, connections, rate))


def drive_for(port: int, ca: Path, requests: list[bytes], connections: int, seconds: float) -> Outcome:
    """Send requests as fast as the answers come, until there are no more or so many `seconds` have gone by."""
    return asyncio.run(_drive(port, ca, requests, connections, None, most_s=seconds))
