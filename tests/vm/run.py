"""Boots a kernel, runs the agent's `probe` and, if wished, a command there, and prints the console.

    .venv/bin/python tests/vm/run.py --kernel 6.1-amd64 --mode kprobe --command './kaimon-agent version'

The command finds the agent as ./kaimon-agent, other files under their own names, and the mode in $MODE.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import kernels
import machine
from behaviour import build


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=kernels.NAMES, required=True)
    parser.add_argument("--agent", type=Path, help="the binary; built for the kernel's architecture if not given")
    parser.add_argument("--mode", default="auto", help="goes into $MODE")
    parser.add_argument("--command", default="", help="a line for the machine's shell")
    parser.add_argument("--file", type=Path, action="append", default=[], help="another file to take along; repeatable")
    parser.add_argument("--seconds", type=float, default=600, help="patience")
    given = parser.parse_args()
    try:
        kernel = kernels.get(given.kernel)
        agent = given.agent or build("cmd/kaimon-agent", "kaimon-agent", kernel.arch)
        files = {"kaimon-agent": agent, **{file.name: file for file in given.file}}
        script = f"export MODE={given.mode}\n./kaimon-agent probe || exit\n{given.command}\n"
        return machine.boot(kernel, files, script, lambda line: print(line, flush=True), given.seconds)
    except kernels.UnavailableError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 77


if __name__ == "__main__":
    sys.exit(main())
