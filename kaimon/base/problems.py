"""Errors as application/problem+json (RFC 9457) with stable codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

PROBLEM_TYPE: Final = "application/problem+json"


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """An error that a caller may see.

    `code` is stable and what programs branch on; `title` and `detail` are for people and never hold a secret. `about`
    says whom it is about, `tenant` and `agent_id`, for logs and metrics: it is no part of the answer.
    """

    status: int
    code: str
    title: str
    detail: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the problem document; `type` is a URN so that it never depends on a host."""
        document: dict[str, Any] = {
            "type": f"urn:kaimon:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "request_id": request_id,
        }
        if self.detail is not None:
            document["detail"] = self.detail
        return document | self.extra
