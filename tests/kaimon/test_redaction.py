"""Tokens of every kind, seeded wherever a failing program may carry them: none comes out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaimon.base.redact import without_tokens
from kaimon.cli.main import SUBCOMMANDS, build
from tenancy.tokens import mint

TOKENS = [mint("enr"), mint("hst"), mint("api")]
FAILURES = {
    "an exception that nobody catches": "fail()",
    "one in a thread": "t = threading.Thread(target=fail); t.start(); t.join()",
    "one in a pool that nobody asks": "concurrent.futures.ThreadPoolExecutor(1).submit(fail).result()",
    "one in a task that nobody awaits": "asyncio.run(leave())",
    "one in the loop's own callback": "asyncio.run(call())",
    "one when an object ends": "Dies(); gc.collect()",
    "one at the end": "atexit.register(fail)",
    "a chain of them": "chain()",
    "a group of them": "raise ExceptionGroup(TOKEN, [ValueError(TOKEN), KeyError(TOKEN)])",
    "one with notes": "noted()",
    "a warning": "warnings.warn(f'careful with {TOKEN}', stacklevel=1)",
    "a library's log": "logging.getLogger('httpx').error('sent %s', {'authorization': TOKEN}, exc_info=True)",
    "an event": "get_logger('x').error('failed', headers={'authorization': TOKEN}, raw=[TOKEN.encode()])",
    "an exception that is logged": "logged()",
}
PROGRAM = """
import asyncio, atexit, concurrent.futures, gc, logging, os, sys, threading, warnings
from kaimon.base.logs import configure_logs, get_logger
TOKEN = os.environ["SEED"]
configure_logs("test")

def fail(secret=None):
    local = secret or TOKEN
    raise ValueError(f"refused {local}")

async def leave():
    task = asyncio.create_task(asyncio.to_thread(fail))
    await asyncio.sleep(0.2)
    del task
    gc.collect()

async def call():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.05)

class Dies:
    def __del__(self):
        fail()

def chain():
    try:
        fail()
    except ValueError as error:
        raise RuntimeError(TOKEN) from error

def noted():
    error = ValueError("odd")
    error.add_note(TOKEN)
    raise error

def logged():
    try:
        fail()
    except ValueError:
        get_logger("x").exception("failed", token=TOKEN)

"""


@pytest.mark.parametrize("how", FAILURES)
def test_no_failure_of_a_program_shows_a_token(how: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + FAILURES[how] + "\n")
    token = TOKENS[list(FAILURES).index(how) % len(TOKENS)]
    done = subprocess.run(
        [sys.executable, program], env={**os.environ, "SEED": token}, capture_output=True, text=True, timeout=200
    )
    said = done.stdout + done.stderr
    assert f"{token[:8]}[redacted]" in said, "it must be told that something failed"
    assert token[8:-4] not in said


def test_an_error_that_bears_a_token_is_told_without_it() -> None:
    for token in TOKENS:
        error = ValueError(f"refused {token}")
        clean = without_tokens(error)
        assert clean is not error
        assert token[8:-4] not in repr(clean)
        assert "ValueError" in str(clean)
        assert clean.__cause__ is None
        assert clean.__suppress_context__
    innocent = ValueError("refused")
    assert without_tokens(innocent) is innocent


def test_no_command_takes_a_token_as_a_word() -> None:
    """What is on a command line, everybody on the machine can read."""
    group = build(SUBCOMMANDS)
    words = [
        (command.callback.__name__, name)
        for info in [*group.registered_groups, group]
        for command in getattr(getattr(info, "typer_instance", info), "registered_commands", [])
        if command.callback is not None
        for name in command.callback.__annotations__
    ]
    assert len(words) > 20
    assert [word for word in words if word[1] in {"token", "credential", "secret", "password", "key", "code"}] == []


def test_a_token_that_somebody_types_in_place_of_its_id_is_not_said_back(tmp_path: Path) -> None:
    kaimon = Path(sys.executable).parent / "kaimon"
    token = TOKENS[0]
    done = subprocess.run(
        [kaimon, "token", "revoke", "--tenant", "acme", token],
        env={**os.environ, "KAIMON_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert token[8:-4] not in done.stdout + done.stderr
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "access" in path.parts)
    assert kept
    assert token[8:-4].encode() not in kept
