"""Recorded batches: how they are made from a real capture, and how they go through the real endpoint again.

A recording keeps only the marked events of one capture. The rest is counted as filtered and rows are numbered anew,
as if the kernel's filter had known the marker; so both equations hold for it as they did for the capture.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import zstandard

from kaimon.local.processes import ProcessError

FOLDER: Final = Path(__file__).parent / "recorded"
BATCHES: Final = FOLDER / "batches.ndjson.zst"
LOG: Final = FOLDER / "generator.jsonl"
MARKER: Final = "kaimon-demo-recorded"

Batch = list[dict[str, Any]]
"""A batch's lines: the header, then the events."""


def reduced(batches: list[Batch], marker: str) -> Iterator[Batch]:
    """Yield each batch with only the events whose path or target bears `marker`, numbered anew.

    Raises:
        ValueError: the capture lost something: it is no good as a recording.
    """
    rows: Counter[int] = Counter()
    occurrences: Counter[int] = Counter()
    for header, *events in batches:
        kept = []
        for event in sorted(events, key=lambda event: (event["cpu"], event["seq"])):
            if marker in event["path"] or marker in (event.get("target_path") or ""):
                cpu = event["cpu"]
                kept.append(event | {"seq": rows[cpu]})
                rows[cpu] += 1
                occurrences[cpu] += event["count"]
        cpus = []
        for counters in header["cpus"]:
            if any(counters["lost_rows"].values()) or any(counters["lost_events"].values()):
                raise ValueError("the capture lost events")
            cpu = counters["cpu"]
            filtered = counters["seen"] - counters["pending"] - occurrences[cpu]
            cpus.append(counters | {"filtered": filtered, "next_seq": rows[cpu]})
        yield [header | {"cpus": cpus}, *kept]


def save(batches: list[Batch], log: Path, marker: str) -> None:
    """Write a recording of these batches and the generator's log, without what tells of the machine."""
    FOLDER.mkdir(exist_ok=True)
    lines = []
    for header, *events in reduced(batches, marker):
        host = header["host"] | {"os": "Linux", "kernel": "6.18.0"}
        lines.append(header | {"hostname": "recorded", "boot_id": str(uuid.UUID(int=0)), "host": host})
        lines += [event | {"mount_ns": None, "container_id": None, "dev": None} for event in events]
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    BATCHES.write_bytes(zstandard.ZstdCompressor(level=19).compress(text.encode()))
    LOG.write_text(log.read_text())


def load() -> list[Batch]:
    """Return the recording's batches."""
    batches: list[Batch] = []
    for line in zstandard.ZstdDecompressor().decompress(BATCHES.read_bytes()).decode().splitlines():
        item = json.loads(line)
        if item.get("kind") == "batch":
            batches.append([item])
        else:
            batches[-1].append(item)
    return batches


def as_of_now(batches: list[Batch], agent_id: str) -> Iterator[Batch]:
    """Yield the batches as this agent would send them now: times moved, a load and a chain of its own."""
    load_id = str(uuid.uuid4())
    shift = time.time_ns() // 1000 - max(header["sent_at"] for header, *_ in batches)
    for header, *events in batches:
        moved = [
            event | {name: event[name] + shift for name in ("time", "last_time", "process_start") if event.get(name)}
            for event in events
        ]
        yield [header | {"agent_id": agent_id, "load_id": load_id, "sent_at": header["sent_at"] + shift}, *moved]


class Sender:
    """Enrolls and sends batches as the agent does, one after the other."""

    def __init__(self, server: str, ca: Path, token: str) -> None:
        """Enroll at `server` with `token`.

        Raises:
            ProcessError: ingest refused.
        """
        self._server = server
        self._trust = ssl.create_default_context(cafile=str(ca))
        host = {"os": "Linux", "kernel": "6.18.0", "arch": "x86_64", "cloud": None}
        body = {"hostname": "recorded", "boot_id": str(uuid.UUID(int=0)), "agent_version": "0.1.0", "host": host}
        answer = self._post("/v1/enroll", token, json.dumps(body).encode(), {"Content-Type": "application/json"})
        self.agent_id: str = answer["agent_id"]
        self._credential: str = answer["credential"]
        self._previous: str | None = None

    def send(self, batch: Batch) -> None:
        """Send one batch and wait until it is durable.

        Raises:
            ProcessError: ingest refused it, or a line of it.
        """
        lines = [batch[0] | {"previous_digest": self._previous}, *batch[1:]]
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        body = zstandard.ZstdCompressor().compress(text.encode())
        digest = hashlib.sha256(body)
        self._previous = digest.hexdigest()
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "zstd",
            "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        answer = self._post("/v1/batches", self._credential, body, headers)
        if answer["rejected"]:
            raise ProcessError(f"ingest rejected lines of the recording: {answer['errors'][:3]}")

    def _post(self, path: str, secret: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own ingest
            self._server + path, data=body, headers=headers | {"Authorization": f"Bearer {secret}"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, context=self._trust, timeout=60) as answer:  # noqa: S310
                document: dict[str, Any] = json.loads(answer.read())
                return document
        except urllib.error.HTTPError as refused:
            raise ProcessError(f"{path}: {refused.code} {refused.read().decode(errors='replace')}") from None


def send(server: str, ca: Path, token: str) -> None:
    """Send the whole recording to `server` as a newly enrolled agent."""
    sender = Sender(server, ca, token)
    for batch in as_of_now(load(), sender.agent_id):
        sender.send(batch)


def keep(lines: bytes, into: list[Batch]) -> bytes:
    """Append a batch on its way to `into`; return it unchanged (an edit for `kaimon.local.relay`)."""
    into.append([json.loads(line) for line in lines.splitlines()])
    return lines
