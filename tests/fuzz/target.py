"""What the fuzzer calls with every input: a body as it may come from a host who is known and means ill.

The first byte says how the rest becomes a body, so that the fuzzer need not learn to write zstd frames that open: as it
is, or compressed as lines, as lines without their size, as an Arrow stream; and whether it is parsed with neighbours.
Run by `body.py`, which makes the first inputs.
"""

from __future__ import annotations

import hashlib
import json
import sys

import atheris
import zstandard

with atheris.instrument_imports(include=["ingest"]):
    from ingest.batch import ARROW, NDJSON, Arrived, Batch, Unread, read_batches
    from ingest.settings import REJECTED_BYTES, IngestSettings
from kaimon.base.problems import Problem
from lake.segments import encode_segment, read_segment
from tenancy.credentials import HostIdentity
from tenancy.subscriptions import Subscription

SETTINGS = IngestSettings(
    max_compressed_bytes=1 << 20,
    max_decompressed_bytes=1 << 20,
    max_line_bytes=4096,
    max_header_bytes=16_384,
    max_lines=2_000,
    admission_bytes=8 << 20,
    tenant_admission_bytes=1 << 20,
)
MOST_MEMORY = SETTINGS.max_compressed_bytes + 2 * SETTINGS.max_decompressed_bytes + REJECTED_BYTES * SETTINGS.max_lines
AGENT = "agt_00112233445566ff"
SENDER = HostIdentity("acme", AGENT, "host-1", Subscription("active"))
REFUSALS = {(400, "malformed_body"), (400, "bad_header"), (403, "agent_mismatch"), (413, "too_large")}

_SIZED = zstandard.ZstdCompressor(level=1)
_UNSIZED = zstandard.ZstdCompressor(level=1, write_content_size=False)


def body_of(data: bytes) -> tuple[bytes, str]:
    """Return an input's body and media type."""
    form, rest = data[0] % 5 if data else 0, data[1:]
    if form == 0:
        return rest, NDJSON
    if form == 1:
        return rest, ARROW
    if form == 2:
        return _SIZED.compress(rest), NDJSON
    if form == 3:
        return _UNSIZED.compress(rest), NDJSON
    return _SIZED.compress(rest), ARROW


def arrived(body: bytes, kind: str) -> Arrived:
    return Arrived(body, hashlib.sha256(body).hexdigest(), 1_700_000_000_000_000, SENDER, kind)


def _neighbours() -> list[Arrived]:
    """Return two batches, of a good line and of that and a bad one; some inputs are parsed along with one of them."""
    with open(sys.argv[1], "rb") as file:  # noqa: PTH123 - argv is the fuzzer's
        lines = file.read().splitlines(keepends=True)
    return [arrived(_SIZED.compress(b"".join(lines[:end])), NDJSON) for end in (2, 3)]


def claim(size: int) -> None:
    assert 0 <= size <= MOST_MEMORY, size


def look_at(batch: Batch, body: bytes, kind: str) -> None:
    """Hold a batch that was taken against its body: no line is lost, none is made, all of it comes back as it went."""
    if kind == NDJSON:
        lines = zstandard.ZstdDecompressor().decompressobj().decompress(body).split(b"\n")[1:-1]
        assert batch.rows.num_rows + len(batch.rejected) == len(lines)
        numbers = sorted([*batch.rows["line"].to_pylist(), *(line.line for line in batch.rejected)])
        assert numbers == list(range(2, len(lines) + 2))
        for line in batch.rejected:
            assert line.raw == lines[line.line - 2]
        for number, path in zip(batch.rows["line"].to_pylist(), batch.rows["path"].to_pylist(), strict=True):
            assert json.loads(lines[number - 2])["path"] == path
    batch.rows.validate(full=True)
    assert 0 <= batch.size <= 2 * MOST_MEMORY
    segment = read_segment(encode_segment("node", 1, "acme", [(batch.record, batch.rows, batch.rejected)]))
    assert [record.identity for record in segment.batches] == [batch.record.identity]
    assert segment.batches[0].rows == batch.rows.num_rows


def take(data: bytes) -> None:
    """Read one body: it is a batch, or refused as documented; good ones that are parsed with it are as ever."""
    body, kind = body_of(data)
    # In company, or alone, which is quicker.
    bad = data[:1] >= b"\xf0"
    around = [NEIGHBOURS[bad]] if data[:1] >= b"\xe0" else []
    found = read_batches([Unread(one, SETTINGS, claim) for one in (*around, arrived(body, kind), *around)])
    batch = found.pop(len(around))
    for neighbour in found:
        assert isinstance(neighbour, Batch), neighbour
        assert (neighbour.rows["line"].to_pylist(), [line.line for line in neighbour.rejected]) == ([2], [3] * bad)
    if isinstance(batch, Problem):
        assert (batch.status, batch.code) in REFUSALS, batch
    elif isinstance(batch, Exception):
        raise batch
    else:
        look_at(batch, body, kind)


if __name__ == "__main__":
    NEIGHBOURS = _neighbours()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], take)
    atheris.Fuzz()
