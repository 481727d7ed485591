"""A request as routes see it: its credential, its source, its kind, its body within bounds; and what is said of it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from types import TracebackType
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from ingest.admission import Reservation
from ingest.body import too_large
from kaimon.base.problems import Problem

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RANDOM: Final = random.Random()  # noqa: S311 - an id tells requests apart, and hides nothing
_DRAIN_S: Final = 5.0


class Call:
    """One request's way in and out, observed.

    Routes add what the access log should say to `said`, never a secret, and to `headers` what goes with any answer.
    """

    __slots__ = ("_headers", "_more", "_receive", "_send", "_waits", "headers", "request_id", "said", "scope", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take over a request of which nothing was read."""
        self.scope = scope
        # The first of several with one name counts.
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        given = self.header(b"x-request-id")
        fits = given is not None and _REQUEST_ID.fullmatch(given)
        self.request_id: str = given if given and fits else f"req_{_RANDOM.getrandbits(64):016x}"
        self.said: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._more = self._headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self._headers
        # The sender waits for leave to send: refusing it is an answer in time.
        self._waits = self._headers.get(b"expect", b"").lower() == b"100-continue"

    def header(self, name: bytes) -> str | None:
        """Return a header's value; `name` is in lower case."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def source(self) -> str:
        """The client's address."""
        client = self.scope.get("client")
        return client[0] if client else ""

    async def receive(self) -> Message:
        """Pass on a piece of the body."""
        message = await self._receive()
        self._waits = False
        self._more = message["type"] == "http.request" and bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        """Pass on a piece of the answer, under the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            ours = ((b"x-request-id", self.request_id.encode()), *_pairs(self.headers))
            message["headers"] = [*message.get("headers", ()), *ours]
        await self._send(message)

    async def answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        pairs = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *_pairs(headers or {})]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body})

    async def drain(self, most: int) -> None:
        """Read what is left of the body, up to `most` bytes and a few seconds, and keep none of it."""
        if self._waits:
            return
        left = most
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._more and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _pairs(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


class TimeToRead:
    """Ends the reading of bodies that take too long, as `asyncio.timeout` would. Only for the event loop's thread.

    One timer looks after all of them: each has as long, so that whoever began first is late first, and nearly all
    have been read by then.
    """

    def __init__(self, within_s: float) -> None:
        """Give each body so many seconds."""
        self.within_s = within_s
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._ends[_this_task()] = loop.time() + self.within_s
        if self._timer is None:
            self._timer = loop.call_later(self.within_s, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _this_task()
        # Another may have cancelled it as well: that one is obeyed.
        if self._ends.pop(task, None) is None and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        for task in [task for task, end in self._ends.items() if end <= loop.time()]:
            del self._ends[task]
            task.cancel()
        first = next(iter(self._ends.values()), None)
        self._timer = None if first is None else loop.call_at(first, self._look)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def is_within(source: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Say whether an address is in one of the networks."""
    try:
        address = ip_address(source)
    except ValueError:
        return False
    return any(address in network for network in networks)


def bearer(call: Call) -> str:
    """Return the token of the Authorization header.

    Raises:
        Problem: 401 unauthorized, there is none.
    """
    scheme, _, token = (call.header(b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(
            401,
            "unauthorized",
            "Unknown or revoked token",
            "want Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return token.strip()


def require_type(call: Call, *wanted: str) -> str:
    """Return the body's media type without its parameters; raise 415 unless it is one of those."""
    kind = (call.header(b"content-type") or "").partition(";")[0].strip().lower()
    if kind not in wanted:
        want = f"want Content-Type: {' or '.join(wanted)}"
        raise Problem(415, "unsupported_media_type", "Unsupported media type", want)
    return kind


def declared_length(call: Call, limit: int) -> int:
    """Return the body's length as its header has it, `limit` if it does not say.

    Raises:
        Problem: 400 malformed_body; 413 too_large.
    """
    text = call.header(b"content-length")
    if text is None:
        return limit
    # Digits beyond any length would make the conversion itself expensive.
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(2**63)):
        raise Problem(400, "malformed_body", "The body is not a batch", "Content-Length is not a number")
    if (length := int(text)) > limit:
        raise too_large(f"{length} bytes, at most {limit}")
    return length


async def read_body(call: Call, limit: int, time: TimeToRead, reservation: Reservation | None = None) -> bytes:
    """Return the body.

    Args:
        call: nothing of its body was read yet.
        limit: the most bytes that it may have.
        time: how long it may take to come.
        reservation: made for its declared length, which it may not pass.

    Raises:
        Problem: 413 too_large; 503 body_timeout.
        starlette.requests.ClientDisconnect: it broke off.
    """
    most = min(limit, reservation.size) if reservation is not None else limit
    pieces: list[bytes] = []
    total, more = 0, True
    try:
        with time:
            while more:
                message = await call.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece, more = message.get("body", b""), message.get("more_body", False)
                total += len(piece)
                if total > most:
                    raise too_large(f"more than {most} bytes")
                pieces.append(piece)
    except TimeoutError as error:
        raise Problem(
            503, "body_timeout", "The body took too long", f"over {time.within_s:g} s", headers={"Retry-After": "1"}
        ) from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
