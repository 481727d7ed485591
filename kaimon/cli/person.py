"""`kaimon person`: who the numbers in the audit chains are, until a name is forgotten."""

from __future__ import annotations

from typing import Annotated

import typer

from kaimon.cli.tenant import database
from kaimon.cli.terminal import inert
from tenancy.people import forget_name, names

app = typer.Typer(help="Who the numbers in the audit chains are.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List people whose name is kept, one a line: number, name."""
    with database() as db:
        people = names(db)
    for person, name in sorted(people.items(), key=lambda pair: pair[1]):
        print(f"{person}  {inert(name)}")


@app.command()
def forget(
    person_id: Annotated[str, typer.Argument(help="As `person list` shows it: prs_…", metavar="PERSON_ID")],
) -> None:
    """Erase a person's name for good; what they did stays on record under the number, and every chain verifies."""
    with database() as db:
        forget_name(db, person_id)
    print(f"the name of {person_id} is gone")
