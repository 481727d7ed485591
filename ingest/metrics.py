"""What ingest counts about itself, for Prometheus; no label holds a tenant's or a host's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import prometheus_client as prometheus
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ingest.batch import Batch

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One process's counters, in a registry of their own."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = prometheus.CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"kaimon_ingest_{name}", meaning, labels, registry=self.registry)

        def seconds(name: str, meaning: str, *labels: str) -> prometheus.Histogram:
            return prometheus.Histogram(
                f"kaimon_ingest_{name}", meaning, labels, registry=self.registry, buckets=_SECONDS
            )

        self.requests = counter("requests", "Requests answered", "route", "status")
        self.request_seconds = seconds("request_seconds", "From a request's first byte to its answer", "route")
        self.refusals = counter("refusals", "Requests refused, by problem code", "code")
        self.batches = counter("batches", "Batches answered with 200", "duplicate")
        self.events = counter("events", "Event rows staged")
        self.rejected = counter("rejected_lines", "Lines staged as rejected", "code")
        self.body_bytes = counter("body_bytes", "Bodies of batches, as sent")
        self.slow_parses = counter("slow_parses", "Batches whose lines were looked at one by one")
        self.segments = counter("segments", "Segments made durable")
        self.segment_bytes = counter("segment_bytes", "Their bytes")
        self.put_seconds = seconds("put_seconds", "Until a segment was durable, retries included")
        self.put_failures = counter("put_failures", "Attempts to write a segment that failed")

    def staged(self, batch: Batch) -> None:
        """Count a batch that is durable."""
        self.events.inc(batch.record.rows)
        self.slow_parses.inc(batch.slow)
        for code, lines in Counter(line.code for line in batch.rejected).items():
            self.rejected.labels(code=code).inc(lines)

    def watch(self, name: str, meaning: str, ask: Callable[[], float]) -> None:
        """Show a value that is asked for at every scrape."""
        prometheus.Gauge(f"kaimon_ingest_{name}", meaning, registry=self.registry).set_function(ask)

    def exposition(self) -> tuple[bytes, str]:
        """Return the text for Prometheus and its content type."""
        return prometheus.generate_latest(self.registry), CONTENT_TYPE_LATEST
