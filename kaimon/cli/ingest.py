"""`kaimon ingest`: take in batches from agents."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Take in batches from agents.", no_args_is_help=True)


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="Port to listen on; KAIMON_PORT if not given.")] = None,
) -> None:
    """Serve until Ctrl-C; TLS 1.2 or newer only."""
    from sqlalchemy.exc import DBAPIError

    from ingest.server import serve as run
    from ingest.settings import IngestSettings
    from kaimon.base.aws import AwsError
    from kaimon.base.logs import configure_logs, get_logger
    from tenancy.database import plainly
    from tenancy.keys import UnusableKeyError
    from tenancy.migrate import NewerDatabaseError

    configure_logs("ingest")
    try:
        run(IngestSettings() if port is None else IngestSettings(port=port))
    except DBAPIError as error:
        get_logger(__name__).critical("ingest_not_started", error=f"the control database: {plainly(error)}")
        raise typer.Exit(2) from error
    except (AwsError, UnusableKeyError, NewerDatabaseError) as error:
        get_logger(__name__).critical("ingest_not_started", error=str(error))
        raise typer.Exit(2) from error


@app.command()
def certificates() -> None:
    """Make the development certificates if there are none that last; print the path of what clients must trust."""
    from ingest.settings import IngestSettings
    from kaimon.base.tls import ensure_development_tls

    typer.echo(ensure_development_tls(IngestSettings().home).ca)
