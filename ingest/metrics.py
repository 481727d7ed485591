"""What ingest counts: is it healthy, who is sending, what is refused, how late. Several workers count as one."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import prometheus_client as prometheus
from prometheus_client import multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ingest.batch import Batch

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that `prometheus_client` reads when it is imported: where workers put their counts."""

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LATE: Final = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0, 86_400.0, 604_800.0)
_LIVE: Final = re.compile(r"gauge_live[a-z]*_([0-9]+)\.db")


@dataclass(frozen=True)
class OfTenant:
    """One tenant's counters."""

    batches: prometheus.Counter
    events: prometheus.Counter
    bytes: prometheus.Counter


class Metrics:
    """One process's counters, in a registry of their own. Tenants are labels, hosts are not."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = prometheus.CollectorRegistry()
        self._tenants: dict[str, OfTenant] = {}
        self._answers: dict[tuple[str, int], tuple[prometheus.Counter, prometheus.Histogram]] = {}
        self._watched: list[tuple[prometheus.Gauge, Callable[[], float]]] = []

        def counter(name: str, meaning: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"kaimon_ingest_{name}", meaning, labels, registry=self.registry)

        def seconds(name: str, meaning: str, *labels: str, buckets: Sequence[float] = _SECONDS) -> prometheus.Histogram:
            name = f"kaimon_ingest_{name}"
            return prometheus.Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)

        self.requests = counter("requests", "Requests answered", "route", "status")
        self.request_seconds = seconds("request_seconds", "From a request's first byte to its answer", "route")
        self.refusals = counter("refusals", "Requests refused, by problem code", "code")
        batches = counter("batches", "Batches answered with 200", "duplicate")
        self.new_batches, self.duplicate_batches = (batches.labels(duplicate=word) for word in ("false", "true"))
        self.events = counter("events", "Event rows staged")
        self.rejected = counter("rejected_lines", "Lines staged as rejected", "code")
        self.body_bytes = counter("body_bytes", "Bodies of batches, as sent")
        self.slow_parses = counter("slow_parses", "Batches some of whose lines were rejected")
        self.conflicts = counter("conflicts", "Batches whose number another body had, as far as a worker remembers")
        self.late_seconds = seconds("late_seconds", "From a batch's newest event to its arrival", buckets=_LATE)
        self.tenant_batches = counter("tenant_batches", "Batches staged", "tenant")
        self.tenant_events = counter("tenant_events", "Event rows staged", "tenant")
        self.tenant_bytes = counter("tenant_body_bytes", "Bodies of batches, as sent", "tenant")
        self.tenant_refusals = counter("tenant_refusals", "Requests of a known tenant refused", "tenant", "code")
        self.segments = counter("segments", "Segments made durable")
        self.segment_bytes = counter("segment_bytes", "Their bytes")
        self.put_seconds = seconds("put_seconds", "Until a segment was durable, retries included")
        self.put_failures = counter("put_failures", "Attempts to write a segment that failed")

    def of(self, tenant: str) -> OfTenant:
        """Return a tenant's counters; looking for them by their labels takes longer than counting."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = OfTenant(
                self.tenant_batches.labels(tenant=tenant),
                self.tenant_events.labels(tenant=tenant),
                self.tenant_bytes.labels(tenant=tenant),
            )
        return found

    def answered(self, route: str, status: int, took_s: float) -> None:
        """Count a request; routes and statuses are few."""
        found = self._answers.get((route, status))
        if found is None:
            labelled = self.requests.labels(route=route, status=str(status)), self.request_seconds.labels(route=route)
            found = self._answers[route, status] = labelled
        found[0].inc()
        found[1].observe(took_s)

    def staged(self, tenant: str, batch: Batch) -> None:
        """Count a batch that is durable."""
        record, of = batch.record, self.of(tenant)
        of.batches.inc()
        of.events.inc(record.rows)
        self.events.inc(record.rows)
        if record.last_time is not None:
            self.late_seconds.observe(max(record.received_at - record.last_time, 0) / 1e6)
        if batch.slow:
            self.slow_parses.inc()
            for code, lines in Counter(line.code for line in batch.rejected).items():
                self.rejected.labels(code=code).inc(lines)

    def watch(self, name: str, meaning: str, ask: Callable[[], float]) -> None:
        """Show a value that is asked for whenever `refresh` is called; the workers' values are added up."""
        gauge = prometheus.Gauge(f"kaimon_ingest_{name}", meaning, registry=self.registry, multiprocess_mode="livesum")
        self._watched.append((gauge, ask))

    def refresh(self) -> None:
        """Take the watched values anew."""
        for gauge, ask in self._watched:
            gauge.set(ask())

    def exposition(self) -> tuple[bytes, str]:
        """Return the text for Prometheus and its content type; of all workers if there are several."""
        self.refresh()
        folder = os.environ.get(SHARED_FOLDER)
        registry = self.registry
        if folder is not None:
            forget_the_dead(Path(folder))
            registry = prometheus.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(registry), CONTENT_TYPE_LATEST


def forget_the_dead(folder: Path) -> None:
    """Remove what processes that are gone were last seen to hold; their counters stay."""
    for path in folder.iterdir():
        found = _LIVE.fullmatch(path.name)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            with suppress(FileNotFoundError):
                path.unlink()
