"""A body: its digest, and its one zstd frame opened within bounds."""

from __future__ import annotations

import binascii
import hashlib
import re
import threading
from typing import Final

import zstandard

from kaimon.base.problems import Problem

_DIGEST: Final = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?=,|$)")
_UNDECLARED: Final = -1
# A block of four bytes may hold 128 KiB, so this much input makes at most 16 MiB of output beyond the limit.
_STEP_BYTES: Final = 512
_OF_THREAD: Final = threading.local()


def expected_digest(header: str | None) -> bytes:
    """Return the SHA-256 that a `Content-Digest` header (RFC 9530) promises; other algorithms in it are ignored.

    Raises:
        Problem: 400 bad_digest, there is none.
    """
    found = _DIGEST.search(header or "")
    if found is None:
        raise Problem(400, "bad_digest", "Content-Digest missing or malformed", "want sha-256=:<base64>:")
    # Whatever matched is base64.
    return binascii.a2b_base64(found[1])


def checked_digest(body: bytes, expected: bytes) -> str:
    """Return the body's SHA-256 in hex.

    Raises:
        Problem: 400 digest_mismatch, the body is not what was sent.
    """
    digest = hashlib.sha256(body)
    if digest.digest() != expected:
        raise Problem(400, "digest_mismatch", "The body does not match its Content-Digest")
    return digest.hexdigest()


def declared_bytes(body: bytes, limit: int) -> int:
    """Return how many bytes the frame says that it holds; `limit` if it does not say.

    Raises:
        Problem: 400 malformed_body, not a frame; 413 too_large.
    """
    try:
        declared = zstandard.frame_content_size(body)
    except zstandard.ZstdError as error:
        raise malformed("not a zstd frame") from error
    if declared > limit:
        raise too_large(f"{declared} bytes decompressed, at most {limit}")
    return limit if declared == _UNDECLARED else declared


def decompress(body: bytes, limit: int) -> bytes:
    """Return what the one zstd frame holds, at most `limit` bytes.

    Raises:
        Problem: 400 malformed_body, not exactly one whole frame; 413 too_large.
    """
    declared = declared_bytes(body, limit)
    try:
        if zstandard.frame_content_size(body) == _UNDECLARED:
            # Not this thread's own: it would keep the memory of the largest window it ever saw.
            return _decompress_in_steps(_new_decompressor(limit), body, limit)
        opened = _decompressor(limit).decompress(body, max_output_size=declared, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise malformed(str(error)) from error
    if len(opened) != declared:
        raise malformed(f"{len(opened)} bytes decompressed, {declared} declared")
    return opened


def _decompressor(limit: int) -> zstandard.ZstdDecompressor:
    """Return this thread's: making one costs more than opening a small body."""
    made: tuple[int, zstandard.ZstdDecompressor] | None = getattr(_OF_THREAD, "made", None)
    if made is None or made[0] != limit:
        made = _OF_THREAD.made = limit, _new_decompressor(limit)
    return made[1]


def _new_decompressor(limit: int) -> zstandard.ZstdDecompressor:
    # A frame may ask for a window larger than its content; that memory is bounded too.
    return zstandard.ZstdDecompressor(max_window_size=1 << max(limit - 1, 1024).bit_length())


def _decompress_in_steps(decompressor: zstandard.ZstdDecompressor, body: bytes, limit: int) -> bytes:
    """Open a frame that does not say its size: the one-shot call would drop a second frame without a word."""
    stream = decompressor.decompressobj()
    pieces: list[bytes] = []
    total = 0
    for start in range(0, len(body), _STEP_BYTES):
        piece = stream.decompress(body[start : start + _STEP_BYTES])
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise too_large(f"more than {limit} bytes decompressed")
        if stream.eof:
            if stream.unused_data or start + _STEP_BYTES < len(body):
                raise malformed("data after the zstd frame")
            return b"".join(pieces)
    raise malformed("the zstd frame is cut short")


def malformed(detail: str) -> Problem:
    """400: not a batch at all; sending it again would not help."""
    return Problem(400, "malformed_body", "The body is not a batch", detail)


def too_large(detail: str) -> Problem:
    """413: nothing of it was stored; the agent halves it under new numbers."""
    return Problem(413, "too_large", "The batch is too large", detail)
