"""What is staged and has not landed: per ingest node, the contiguous run after what its batches reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lake.segments import FIRST_SEQUENCE, Segment, SegmentError, parse_segment_key, read_segment, segment_key
from lake.stores import MissingError, Store

Position = tuple[str, int]
"""A node and a sequence; sorted, the order in which segments land."""


def staged_run(store: Store, tenant: str, node: str, landed: int) -> range:
    """Return the sequences that a node has staged after `landed`, up to the first gap, by listing.

    A number after a gap is not durable yet by the protocol (n+1 never starts before n is durable): it is left for
    a later listing, which will show both.
    """
    last = max(landed, FIRST_SEQUENCE - 1)
    start_after = segment_key(tenant, node, last) if last >= FIRST_SEQUENCE else None
    first = last + 1
    for stored in store.list(f"{tenant}/{node}", start_after):
        try:
            _, _, seq = parse_segment_key(stored.key)
        except ValueError:
            continue
        if seq != last + 1:
            break
        last = seq
    return range(first, last + 1)


def read_staged(store: Store, tenant: str, position: Position) -> Segment:
    """Read one segment and hold it to its name.

    Raises:
        MissingError: it is not there.
        SegmentError: it is not a segment, or another than its name says.
    """
    node, seq = position
    key = segment_key(tenant, node, seq)
    segment = read_segment(store.get(key))
    if (segment.tenant, segment.node, segment.seq) != (tenant, node, seq):
        raise SegmentError(f"{key} says that it is {segment.tenant}/{segment.node}/{segment.seq}")
    return segment


def read_runs(store: Store, tenant: str, runs: Mapping[str, range]) -> Iterator[Segment]:
    """Yield the runs' segments in the order in which they land; a run ends where a segment is missing.

    A hint may be ahead of its segment: what is not there yet has not been acknowledged, and comes next time.
    """
    for node in sorted(runs):
        for seq in runs[node]:
            try:
                yield read_staged(store, tenant, (node, seq))
            except MissingError:
                break
