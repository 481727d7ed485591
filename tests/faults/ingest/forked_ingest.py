"""Ingest that is there at once, again and again: `forked_ingest.py PORT` forks a server a line on its input.

Everything is imported before the fork, so that a server that was killed has a successor within a fraction of a second.
It is the same application over TLS; only the HTTP server around it is another, since granian begins its workers anew.
Each answer is the child's process id.
"""

from __future__ import annotations

import os
import signal
import sys

import uvicorn

from ingest.app import create_app
from ingest.server import server_tls
from ingest.settings import IngestSettings
from kaimon.base.logs import configure_logs


def serve(port: int) -> None:
    configure_logs("ingest")
    settings = IngestSettings(port=port)
    tls = server_tls(settings)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=port,
        ssl_certfile=tls.certificate,
        ssl_keyfile=str(tls.key),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=30,
    )


def main() -> None:
    port, child = int(sys.argv[1]), 0
    # Unbuffered: the child must not inherit a line that was read ahead.
    while os.read(0, 1):
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            serve(port)
            os._exit(0)
        os.write(1, f"{child}\n".encode())
    if child:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
