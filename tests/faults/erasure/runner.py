"""Erases a tenant in a process of its own and, at a numbered step, dies by kill -9.

A step is a write of any kind: a transaction of the control database, a file or folder that goes, lines that are
blanked, an object that is put; it dies just before or just after it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lake.lean import without_pandas

without_pandas()

from lake import holdings, stores  # noqa: E402 - the shorter start must come first
from lake.settings import LakeSettings  # noqa: E402 - as above
from pipelines.retention import erase  # noqa: E402 - as above
from pipelines.settings import PipelineSettings  # noqa: E402 - as above
from tenancy.database import open_database  # noqa: E402 - as above
from tenancy.settings import TenancySettings  # noqa: E402 - as above

ASKED: dict[str, Any] = json.loads(sys.argv[1])
DONE: list[str] = []


def step(name: str) -> None:
    DONE.append(name)
    if len(DONE) == ASKED.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)


def around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **how: Any) -> Any:
        step(f"before {name}")
        answer = function(*args, **how)
        step(f"after {name}")
        return answer

    return wrapped


for name in ("begin", "note", "remove_rows", "compact", "finish", "blank_lines"):
    setattr(erase, name, around(name, getattr(erase, name)))
holdings._remove = around("remove", holdings._remove)
stores.LocalStore.put_new = around("put", stores.LocalStore.put_new)  # type: ignore[method-assign]

home = Path(ASKED["home"])
db = open_database(TenancySettings(home=home, revocation_grace_s=0.01))
receipt = erase.erase_tenant(db, "acme", LakeSettings(home=home), PipelineSettings(home=home))
print(json.dumps({"steps": DONE, "receipt": receipt.body.decode(), "signature": receipt.signature.hex()}))
