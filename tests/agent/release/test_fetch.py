"""install.sh fetches a release over HTTPS, with curl and with wget."""

from __future__ import annotations

import contextlib
import functools
import http.server
import platform
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BINARY = "usr/local/bin/kaimon-agent"
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the release of these tests is tried on x86_64")


class Mirror:
    """The release's folder over HTTPS, or as badly as a test asks."""

    def __init__(self, folder: Path, sink: Any, newest: ssl.TLSVersion) -> None:
        handler = functools.partial(self.Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sink.ca, sink.folder / "key.pem")
        if newest < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = newest
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass


@pytest.fixture
def mirror(sink: Any) -> Iterator[Callable[..., Mirror]]:
    made: list[Mirror] = []

    def make(folder: Path, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> Mirror:
        made.append(Mirror(folder, sink, newest))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture(params=["curl", "wget"])
def fetcher(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH on which this is all there is to fetch with."""
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).glob("*"):
            link = tools / program.name
            if program.name not in {"curl", "wget"} - {request.param}:
                with contextlib.suppress(FileExistsError):
                    link.symlink_to(program)
    return str(tools)


def test_a_release_is_fetched_over_https_from_a_server_that_is_verified(
    fetcher: str, installer: Any, release: Any, mirror: Callable[..., Mirror], other_sink: Any
) -> None:
    lone = installer.root.with_name("lone")
    lone.mkdir()
    shutil.copy(release.folder / "install.sh", lone)
    alone = type(release)(lone, release.key)
    where = mirror(release.folder)
    unknown = installer.run(*installer.to_sink(), "--from", where.url, code=1, release=alone, PATH=fetcher)
    assert "cannot fetch" in unknown, "the mirror's certificate is nobody's"
    stranger = ["--from", where.url, "--mirror-ca", other_sink.ca]
    assert "cannot fetch" in installer.run(*installer.to_sink(), *stranger, code=1, release=alone, PATH=fetcher)
    assert installer.nothing_is_there()
    trusted = ["--from", where.url, "--mirror-ca", installer.sink.ca]
    installer.run(*installer.to_sink(), *trusted, release=alone, PATH=fetcher)
    assert (installer.root / BINARY).read_bytes() == release.binary().read_bytes()


def test_a_mirror_without_tls_1_2_is_not_spoken_to(
    fetcher: str, installer: Any, release: Any, mirror: Callable[..., Mirror]
) -> None:
    with pytest.warns(DeprecationWarning, match="TLS"):
        old = mirror(release.folder, ssl.TLSVersion.TLSv1_1)
    arguments = ["--from", old.url, "--mirror-ca", installer.sink.ca]
    assert "cannot fetch" in installer.run(*installer.to_sink(), *arguments, code=1, PATH=fetcher)
    assert installer.nothing_is_there()
