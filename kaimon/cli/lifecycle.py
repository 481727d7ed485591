"""`kaimon lifecycle`: hold the buckets' lifecycle rules against those that kaimon wants, or write them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kaimon.base.aws import AwsError
from lake.lifecycle import differences, wanted, write
from lake.settings import LakeSettings


def command(
    write_: Annotated[bool, typer.Option("--write", help="Give each bucket exactly these rules.")] = False,
) -> None:
    """Say where a bucket's lifecycle rules differ, a line each, and exit 1 if any do; retention asks every night."""
    settings = LakeSettings()
    if not wanted(settings):
        print("no store is in S3")
        return
    try:
        if write_:
            print("\n".join(f"{bucket}: rules written" for bucket in write(settings)))
        found = differences(settings)
    except (AwsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print("\n".join(found) if found else "every bucket has exactly its rules")
    if found:
        raise typer.Exit(1)
