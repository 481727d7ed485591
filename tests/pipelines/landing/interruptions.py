"""Ends what runs at a step of the test's choosing, as a kill does."""

from __future__ import annotations

from typing import Any


class Killed(BaseException):
    """Not an error that anything in between may handle."""


class Crashes:
    """Raises at the nth step: before or after anything is put, read or committed, or a day is marked."""

    def __init__(self) -> None:
        self.left = 0

    def step(self) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                raise Killed

    def around(self, function: Any) -> Any:
        def wrapped(*args: Any, **how: Any) -> Any:
            self.step()
            answer = function(*args, **how)
            self.step()
            return answer

        return wrapped
