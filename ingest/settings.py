"""Settings of the ingest service."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from kaimon.base.settings import HomeSettings

MIB = 1024 * 1024
REJECTED_BYTES = 600
"""What a rejected line takes in memory besides its bytes, about."""


class IngestSettings(HomeSettings):
    """Where ingest listens, how long it gathers batches, and how much it takes in."""

    host: str = Field(default="127.0.0.1", description="Address that ingest listens on.")
    port: int = Field(default=8443, ge=1, le=65535, description="Port that ingest listens on; TLS only.")
    workers: int = Field(
        default=1,
        ge=1,
        description="Worker processes that share the port, each with its own node name and limits; one a CPU "
        "saturates the machine.",
    )
    metrics_from: list[IPv4Network | IPv6Network] = Field(
        default=[IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")],
        description="Networks from which /metrics is answered, as a JSON list; it names tenants. Others get 404.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="Certificate chain (PEM) that ingest shows; without it, a development certificate under `tls/` "
        "in the home.",
    )
    tls_key: Path | None = Field(default=None, description="Its private key: PEM, PKCS#8, not encrypted.")
    commit_linger_ms: int = Field(
        default=100,
        ge=0,
        le=60_000,
        description="Milliseconds that the first waiting batch of a tenant waits for others before the segment is "
        "written; 2000 suits S3.",
    )
    commit_bytes: int = Field(
        default=8 * MIB, gt=0, description="Parsed bytes of waiting batches at which a segment is written at once."
    )
    max_compressed_bytes: int = Field(default=8 * MIB, gt=0, description="Largest body of a batch, as sent.")
    max_decompressed_bytes: int = Field(default=64 * MIB, gt=0, description="Largest body of a batch, decompressed.")
    max_line_bytes: int = Field(default=64 * 1024, gt=0, description="Longest line of an event; longer is rejected.")
    max_header_bytes: int = Field(
        default=MIB, gt=0, description="Longest batch header; it grows with the host's number of CPUs."
    )
    max_lines: int = Field(default=250_000, gt=0, description="Most lines in a batch.")
    admission_bytes: int = Field(
        default=512 * MIB,
        gt=0,
        description="Memory that bodies may take at one time, from their first byte to their answer; past it ingest "
        "answers 503.",
    )
    tenant_admission_bytes: int = Field(
        default=128 * MIB,
        gt=0,
        description="How much of that one tenant's bodies may take when they are let in; past it ingest answers 429 "
        "to that tenant.",
    )
    body_timeout_s: float = Field(default=30.0, gt=0, description="Seconds within which a body must have arrived.")
    parse_threads: int = Field(default=2, ge=1, description="Threads that decompress and parse large bodies.")
    commit_threads: int = Field(
        default=4, ge=1, description="Threads that write segments, and read their small bodies."
    )
    patience_s: float = Field(
        default=20.0, gt=0, description="Seconds that a request waits for its segment; then ingest answers 503."
    )
    put_retry_s: float = Field(
        default=1.0, gt=0, description="Seconds between two attempts to write a segment that could not be written."
    )

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key: give both or neither")
        return self

    @model_validator(mode="after")
    def _the_largest_batch_is_let_in(self) -> Self:
        least = self.max_compressed_bytes + 2 * self.max_decompressed_bytes + REJECTED_BYTES * self.max_lines
        if self.admission_bytes < least:
            raise ValueError(
                f"admission_bytes: want at least {least}, which the largest batch takes while it is parsed"
            )
        if self.tenant_admission_bytes < self.max_compressed_bytes:
            raise ValueError("tenant_admission_bytes: want at least max_compressed_bytes, which the largest body takes")
        return self
