"""What routes need of a request: its credential, its source, its kind, its body within bounds."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from ingest.admission import Reservation
from ingest.body import too_large
from kaimon.base.problems import Problem


def bearer(request: Request) -> str:
    """Return the token of the Authorization header.

    Raises:
        Problem: 401 unauthorized, there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(
            401,
            "unauthorized",
            "Unknown or revoked token",
            "want Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return token.strip()


def source(request: Request) -> str:
    """Return the client's address."""
    return request.client.host if request.client else ""


def require_type(request: Request, wanted: str) -> None:
    """Raise 415 unless the body is said to be of this media type, whatever its parameters."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
        raise Problem(415, "unsupported_media_type", "Unsupported media type", f"want Content-Type: {wanted}")


def declared_length(request: Request, limit: int) -> int:
    """Return the body's length as its header has it, `limit` if it does not say.

    Raises:
        Problem: 413 too_large.
    """
    text = request.headers.get("content-length")
    if text is None:
        return limit
    if not text.isdecimal():
        raise Problem(400, "malformed_body", "The body is not a batch", "Content-Length is not a number")
    if (length := int(text)) > limit:
        raise too_large(f"{length} bytes, at most {limit}")
    return length


async def read_body(request: Request, limit: int, within_s: float, reservation: Reservation | None = None) -> bytes:
    """Return the body.

    Args:
        request: nothing of its body was read yet.
        limit: the most bytes that it may have.
        within_s: how long it may take to come.
        reservation: made for its declared length, which it may not pass.

    Raises:
        Problem: 413 too_large; 503 body_timeout.
        starlette.requests.ClientDisconnect: it broke off.
    """
    most = min(limit, reservation.size) if reservation is not None else limit
    pieces: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(within_s):
            async for piece in request.stream():
                total += len(piece)
                if total > most:
                    raise too_large(f"more than {most} bytes")
                pieces.append(piece)
    except TimeoutError as error:
        raise Problem(
            503, "body_timeout", "The body took too long", f"over {within_s:g} s", headers={"Retry-After": "1"}
        ) from error
    return b"".join(pieces)
