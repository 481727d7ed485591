from __future__ import annotations

import base64
import hashlib
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.body import checked_digest, decompress, expected_digest
from kaimon.base.problems import Problem

LIMIT = 1 << 20
Compress = Callable[[bytes], bytes]


def undeclared(data: bytes) -> bytes:
    """Compress into a frame that does not say its content's size."""
    parameters = zstandard.ZstdCompressionParameters(compression_level=3, write_content_size=False)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def refusal(body: bytes, limit: int = LIMIT) -> Problem:
    with pytest.raises(Problem) as refused:
        decompress(body, limit)
    return refused.value


@pytest.mark.parametrize("compress", [zstandard.compress, undeclared])
@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT])
def test_one_whole_frame_is_opened(compress: Compress, size: int) -> None:
    data = b"x" * size
    assert decompress(compress(data), LIMIT) == data


@pytest.mark.parametrize("compress", [zstandard.compress, undeclared])
def test_a_second_frame_or_trailing_bytes_are_refused_and_not_dropped(compress: Compress) -> None:
    frame = compress(b"hello\n" * 1000)
    for body in (frame + frame, frame + b"x", frame + b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"):
        assert (refusal(body).status, refusal(body).code) == (400, "malformed_body")


@pytest.mark.parametrize("compress", [zstandard.compress, undeclared])
def test_a_frame_cut_short_anywhere_is_refused(compress: Compress) -> None:
    frame = compress(bytes(range(256)) * 20)
    for length in range(len(frame)):
        assert refusal(frame[:length]).code == "malformed_body"


@pytest.mark.parametrize("body", [b"", b"hello", b"\x1f\x8b\x08" + b"\0" * 20, b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"])
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    assert refusal(body).code == "malformed_body"


@pytest.mark.parametrize("compress", [zstandard.compress, undeclared])
def test_more_than_the_limit_is_too_large_whether_declared_or_not(compress: Compress) -> None:
    for limit in (LIMIT - 1, LIMIT // 2 + 1):
        assert (refusal(compress(b"x" * LIMIT), limit).status, refusal(compress(b"x" * LIMIT), limit).code) == (
            413,
            "too_large",
        )


@pytest.mark.parametrize("declared", [True, False])
def test_a_bomb_takes_no_more_memory_than_the_limit_and_a_step(declared: bool) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=17, write_content_size=declared)
    bomb = zstandard.ZstdCompressor(compression_params=parameters).compress(b"\0" * (300 << 20))
    assert len(bomb) < 64 << 10
    tracemalloc.start()
    problem = refusal(bomb, limit=8 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (problem.status, problem.code) == (413, "too_large")
    assert peak < 32 << 20


def test_a_body_is_opened_whatever_was_refused_before_it() -> None:
    good = zstandard.compress(b"x" * 1000)
    for bad in (good[:-1], good + b"y", good[:9] + b"\xff" * 9, zstandard.compress(b"x" * (LIMIT + 1))):
        refusal(bad)
        assert decompress(good, LIMIT) == b"x" * 1000
    assert refusal(good, 999).status == 413


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    frame = bytearray(zstandard.compress(b"x" * 1000))
    assert zstandard.frame_content_size(bytes(frame)) == 1000
    position = frame.index((1000 - 256).to_bytes(2, "little"))
    for lie in (999, 1001):
        frame[position : position + 2] = (lie - 256).to_bytes(2, "little")
        assert refusal(bytes(frame)).code == "malformed_body"


@given(st.binary(max_size=300))
def test_any_bytes_either_open_or_are_refused(body: bytes) -> None:
    for candidate in (body, b"\x28\xb5\x2f\xfd" + body):
        try:
            opened = decompress(candidate, 4096)
        except Problem:
            continue
        assert len(opened) <= 4096


def test_the_digest_is_found_among_others_and_compared() -> None:
    body = b"body"
    wanted = base64.b64encode(hashlib.sha256(body).digest()).decode()
    expected = expected_digest(f"sha-512=:AAAA:, sha-256=:{wanted}:")
    assert checked_digest(body, expected) == hashlib.sha256(body).hexdigest()
    with pytest.raises(Problem) as refused:
        checked_digest(b"another", expected)
    assert (refused.value.status, refused.value.code) == (400, "digest_mismatch")


@pytest.mark.parametrize(
    "header", [None, "", "sha-256=abc", "sha-256=:AAAA:", "xsha-256=:" + "A" * 43 + "=:", "md5=:x:"]
)
def test_a_digest_that_is_missing_or_malformed_is_refused(header: str | None) -> None:
    with pytest.raises(Problem) as refused:
        expected_digest(header)
    assert (refused.value.status, refused.value.code) == (400, "bad_digest")
