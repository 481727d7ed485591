"""How long a body may take to come."""

from __future__ import annotations

import asyncio

import pytest

from ingest.requests import TimeToRead


async def read(time: TimeToRead, seconds: float) -> str:
    with time:
        await asyncio.sleep(seconds)
    return "read"


async def read_until(time: TimeToRead, came: asyncio.Event) -> str:
    with time:
        await came.wait()
    return "read"


async def told(time: TimeToRead, *seconds: float) -> list[object]:
    return await asyncio.gather(*(read(time, each) for each in seconds), return_exceptions=True)


def test_who_is_late_is_ended_and_who_is_not_is_left_alone() -> None:
    async def live() -> None:
        time = TimeToRead(1)
        assert list(map(type, await told(time, 0.0, 30.0, 0.01, 30.0))) == [str, TimeoutError, str, TimeoutError]
        # Whoever begins after the others is late after them.
        early = asyncio.create_task(read(time, 30))
        await asyncio.sleep(0.9)
        came = asyncio.Event()
        later = asyncio.create_task(read_until(time, came))
        with pytest.raises(TimeoutError):
            await early
        assert not later.done()
        came.set()
        assert await later == "read"
        assert early.cancelling() == 0

    asyncio.run(asyncio.wait_for(live(), 20))


def test_what_cancels_a_request_in_time_is_no_timeout() -> None:
    async def live() -> None:
        task = asyncio.create_task(read(TimeToRead(9), 9))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(live(), 5))


def test_what_cancels_a_request_that_is_late_is_obeyed() -> None:
    async def live() -> None:
        time = TimeToRead(0.05)
        task = asyncio.create_task(read(time, 9))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(next(iter(time._ends.values())), task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(live(), 5))


def test_nobody_who_was_in_time_is_cancelled_afterwards() -> None:
    async def live() -> None:
        time = TimeToRead(0.05)
        assert await read(time, 0) == "read"
        await asyncio.sleep(0.1)
        assert await told(time, 0.0) == ["read"]

    asyncio.run(asyncio.wait_for(live(), 5))
