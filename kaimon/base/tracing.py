"""Traces, if somebody collects them: every record of the access log as an OpenTelemetry span.

Off unless `KAIMON_OTLP_ENDPOINT` is set, and then best effort: a collector that is slow or away costs spans, never a
request. What is told is what the access log tells: ids, counts and times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from kaimon.base.access import OK, Access, Sink
from kaimon.base.build import VERSION
from kaimon.base.clock import to_micros
from kaimon.base.redact import redact
from kaimon.base.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

_PATIENCE_MS: Final = 5_000
"""How long the end of a process waits for the collector."""


@contextmanager
def tracing(part: str, settings: TracingSettings | None = None) -> Iterator[Sink | None]:
    """Yield a sink that makes spans of records, or None if nobody collects them; at the end the last are sent.

    Args:
        part: the part of kaimon that reports: `ingest`, `pipelines`, `cli`.
        settings: from the environment if not given.
    """
    endpoint = (settings or TracingSettings()).otlp_endpoint
    if endpoint is None:
        yield None
        return
    provider = _provider(part, endpoint)
    try:
        yield _sink(provider)
    finally:
        provider.force_flush(_PATIENCE_MS)
        provider.shutdown()


def _provider(part: str, endpoint: str) -> TracerProvider:
    # Half a second to import, and of no use to nearly everybody.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.namespace": "kaimon", "service.name": f"kaimon-{part}", "service.version": VERSION}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_PATIENCE_MS // 1000)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _sink(provider: TracerProvider) -> Sink:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    tracer = provider.get_tracer("kaimon")
    kinds = {"call": SpanKind.SERVER, "storage": SpanKind.CLIENT}

    def take(record: Access) -> None:
        ended = to_micros(record.at) * 1000
        began = ended - round((record.took_ms or 0) * 1_000_000)
        kind = kinds.get(record.kind, SpanKind.INTERNAL)
        span = tracer.start_span(record.what, _parent(record), kind, _attributes(record), start_time=began)
        if record.outcome != OK and (record.status is None or record.status >= 500):
            span.set_status(Status(StatusCode.ERROR, record.outcome))
        span.end(ended)

    return take


def _parent(record: Access) -> Context:
    """Return what a span belongs to: the caller's trace if it sent one, else one that all of a request or run share."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if record.trace is not None:
        _, trace, span, flags = record.trace.split("-")
        context = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    else:
        seed = hashlib.sha256((record.request_id or repr(record)).encode()).digest()
        numbers = int.from_bytes(seed[:16], "big"), int.from_bytes(seed[16:24], "big")
        context = SpanContext(*numbers, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(context))


def _attributes(record: Access) -> dict[str, Any]:
    named = {
        "http.response.status_code": record.status,
        "client.address": record.origin if record.kind == "call" else None,
        "kaimon.kind": record.kind,
        "kaimon.outcome": record.outcome,
        "kaimon.tenant": record.tenant,
        "kaimon.object": record.object,
        "kaimon.who": record.who,
        "kaimon.request_id": record.request_id,
        "kaimon.bytes": record.bytes,
        "kaimon.count": record.count,
    }
    return {
        name: redact(value) if isinstance(value, str) else value for name, value in named.items() if value is not None
    }
