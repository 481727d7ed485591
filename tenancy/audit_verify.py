"""Verifies an audit chain: names the first record that is not what it was when it was written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import rfc8785

from tenancy.audit import GENESIS, AuditRecord, Head, digest_of
from tenancy.audit_heads import SignedHead


@dataclass(frozen=True)
class Fault:
    """The first record of a chain that is wrong or missing: its number, and why."""

    chain: str
    seq: int
    why: str


def verify_chain(
    chain: str, head: Head | None, records: Sequence[AuditRecord], signed: Iterable[SignedHead] = ()
) -> Fault | None:
    """Return a chain's first fault, None if there is none.

    Args:
        chain: whose chain.
        head: how far it goes, as the database says.
        records: in the order of their numbers.
        signed: its heads from the audit store, signatures checked.
    """
    faults = [_links(chain, records), _end(chain, head, records), *(_witness(one, records) for one in signed)]
    found = [fault for fault in faults if fault is not None]
    return min(found, key=lambda fault: fault.seq, default=None)


def _links(chain: str, records: Sequence[AuditRecord]) -> Fault | None:
    """The first record that is not bound to the one before it."""
    previous = GENESIS
    for expected, record in enumerate(records, start=1):
        if record.seq != expected:
            return Fault(chain, expected, "it is missing")
        if why := _broken(chain, record, previous):
            return Fault(chain, expected, why)
        previous = record.digest
    return None


def _broken(chain: str, record: AuditRecord, previous: str) -> str | None:
    body = record.body.encode("utf-8", "surrogatepass")
    if digest_of(body) != record.digest:
        return "its contents are not those of its digest"
    try:
        content = json.loads(body)
        canonical = rfc8785.dumps(content) == body
    except (ValueError, rfc8785.CanonicalizationError):
        canonical = False
    if not canonical or not isinstance(content, dict):
        return "it is not canonical JSON"
    if (content.get("chain"), content.get("seq")) != (chain, record.seq):
        return "it was written for another place"
    if content.get("previous") != previous:
        return "it does not follow the record before it"
    return None


def _end(chain: str, head: Head | None, records: Sequence[AuditRecord]) -> Fault | None:
    """What the chain's own head says of its end."""
    last = len(records)
    if head is None:
        return Fault(chain, 1, "the chain has no head") if records else None
    if head.seq > last:
        return Fault(chain, last + 1, f"it is missing: the chain went up to {head.seq}")
    if head.seq < last:
        return Fault(chain, head.seq + 1, "it lies beyond the chain's head")
    if records and records[-1].digest != head.digest:
        return Fault(chain, last, "it is not the one that the chain's head names")
    return None


def _witness(signed: SignedHead, records: Sequence[AuditRecord]) -> Fault | None:
    """What a signed head says of the record that was last when it was signed."""
    head = signed.head
    if head.seq > len(records):
        return Fault(head.chain, len(records) + 1, f"it is missing: a signed head of {_when(signed)} knows {head.seq}")
    if head.seq and records[head.seq - 1].digest != head.digest:
        return Fault(head.chain, head.seq, f"it, or one before it, is not the one signed at {_when(signed)}")
    return None


def _when(signed: SignedHead) -> str:
    return signed.signed_at.strftime("%Y-%m-%dT%H:%M:%SZ")
