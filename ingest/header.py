"""The first line of a batch: who sends it, which batch it is, and the counters at its cut."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ingest.text import is_canonical
from kaimon.base.problems import Problem

EARLIEST_US: Final = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z in microseconds since 1970: calendars, and so our tables, begin here."""
LATEST_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""

UUID_PATTERN: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
# A JSON number may be anything; a table's holds 64 bits with a sign.
_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Text = Annotated[str, Meta(max_length=256)]
_Micros = Annotated[int, Meta(ge=EARLIEST_US, le=LATEST_US)]


class Lost(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many were lost, by cause (`lake.columns.CAUSES`); none may be left out."""

    ring: _Counter
    scratch: _Counter
    shed: _Counter
    refused: _Counter
    evicted: _Counter


class CpuCounters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One CPU's counters, cumulative since the programs were loaded."""

    cpu: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    seen: _Counter
    filtered: _Counter
    next_seq: _Counter
    pending: _Counter
    lost_rows: Lost
    lost_events: Lost


class Host(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the host runs."""

    os: _Text | None = None
    kernel: _Text | None = None
    arch: _Text | None = None
    cloud: _Text | None = None


class BatchHeader(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A batch's header as it came, every field checked. Fields are in the order in which our agent sends them."""

    kind: Literal["batch"]
    agent_id: Annotated[str, Meta(pattern="^agt_[0-9a-f]{16}$")]
    # 255 bytes, each of which may need four characters.
    hostname: Annotated[str, Meta(min_length=1, max_length=1024)]
    boot_id: Annotated[str, Meta(pattern=UUID_PATTERN)]
    load_id: Annotated[str, Meta(pattern=UUID_PATTERN)]
    batch_seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    previous_digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    agent_version: Annotated[str, Meta(min_length=1, max_length=64)]
    capture_mode: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    blind_spots: Annotated[list[Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]], Meta(max_length=256)]
    host: Host
    cpus: Annotated[list[CpuCounters], Meta(min_length=1, max_length=65_536)]
    sent_at: _Micros
    final: bool


_DECODER: Final = msgspec.json.Decoder(BatchHeader)


def read_header(line: bytes) -> BatchHeader:
    """Return the header that `line` holds.

    Raises:
        Problem: 400 bad_header, with the field that is wrong.
    """
    try:
        header = _DECODER.decode(line)
        # What comes out again byte for byte has no key twice; else Python looks, at three times the cost.
        if msgspec.json.encode(header) != line:
            json.loads(line, object_pairs_hook=refuse_twice)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise bad_header(str(error)) from error
    for name, text in _texts(header):
        if not is_canonical(text):
            raise bad_header(f"{name}: not in the wire's escaping")
    cpus = [counters.cpu for counters in header.cpus]
    if len(set(cpus)) != len(cpus):
        raise bad_header("cpus: a CPU is there twice")
    return header


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Take a JSON object's pairs (as `object_pairs_hook`) and refuse a key that is there twice.

    Raises:
        ValueError: names the key.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} is there twice")
    return found


def _texts(header: BatchHeader) -> list[tuple[str, str]]:
    host = header.host
    texts = [("hostname", header.hostname), ("agent_version", header.agent_version)]
    named = (("host.os", host.os), ("host.kernel", host.kernel), ("host.arch", host.arch), ("host.cloud", host.cloud))
    return texts + [(name, text) for name, text in named if text is not None]


def bad_header(detail: str) -> Problem:
    """400: the first line, or the schema's metadata, is not a batch header."""
    return Problem(400, "bad_header", "The batch's header is not valid", detail[:500])
