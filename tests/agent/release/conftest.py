"""A release of the agent, made once and signed by a key of the tests' own; and its install.sh, ready to be run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
EPOCH = "1790000000"


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout


def new_key(path: Path, *, algorithm: str = "ed25519") -> Path:
    more = ["-pkeyopt", "ec_paramgen_curve:P-256"] if algorithm == "EC" else []
    openssl("genpkey", "-algorithm", algorithm, *more, "-out", path)
    path.chmod(0o600)
    return path


def package(*arguments: str | Path, at: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [at / "script" / "package-agent", *arguments],
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH} | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


@dataclass(frozen=True)
class Release:
    folder: Path
    key: Path
    version: str = VERSION

    openssl = staticmethod(openssl)
    new_key = staticmethod(new_key)
    make = staticmethod(package)

    @property
    def public(self) -> Path:
        return self.folder / "kaimon-release.pub"

    def binary(self, arch: str = "amd64") -> Path:
        return self.folder / f"kaimon-agent-{self.version}-linux-{arch}"

    def of_kind(self, kind: str) -> Path:
        [found] = self.folder.glob({"deb": "*_amd64.deb", "rpm": "*.x86_64.rpm"}[kind])
        return found

    def copy(self, to: Path) -> Release:
        shutil.copytree(self.folder, to)
        return Release(to, self.key)

    def sign(self, name: str, key: Path | None = None) -> None:
        file = self.folder / name
        openssl("pkeyutl", "-sign", "-rawin", "-inkey", key or self.key, "-in", file, "-out", f"{file}.sig")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    for tool in ("nfpm", "cyclonedx-gomod", "sbom"):
        if not (ROOT / "build" / "tools" / tool).exists():
            pytest.skip(f"needs build/tools/{tool} (script/bootstrap test)")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("release")
    key = new_key(folder / "key.pem")
    made = package("--key", key, "--out", folder / "dist")
    assert made.returncode == 0, made.stderr
    return Release(folder / "dist", key)


class Installer:
    """Runs a release's install.sh into a root of the test's own."""

    def __init__(self, release: Any, sink: Any, folder: Path, token: str) -> None:
        self.release, self.sink, self.token = release, sink, token
        self.root = folder / "root"
        self.root.mkdir()

    def command(self, *arguments: str | Path, root: bool = True, release: Any = None) -> list[str]:
        script = (release or self.release).folder / "install.sh"
        return [str(word) for word in ("sh", script, *(("--root", self.root) if root else ()), *arguments)]

    def run(
        self, *arguments: str | Path, code: int = 0, token: str | None = None, release: Any = None, **environment: str
    ) -> str:
        done = subprocess.run(
            self.command(*arguments, release=release),
            input=self.token if token is None else token,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | environment,
        )
        assert done.returncode == code, done.stderr
        assert self.token not in done.stdout + done.stderr
        return done.stderr

    def to_sink(self) -> list[str | Path]:
        return ["--server", self.sink.url, "--ca", self.sink.ca, "--token-stdin"]

    def files(self) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()}

    def nothing_is_there(self) -> bool:
        folders = ("etc/kaimon", "var/lib/kaimon-agent")
        return self.files() == set() and not any((self.root / name).exists() for name in folders)


@pytest.fixture
def installer(release: Any, sink: Any, tmp_path: Path, tokens: dict[str, str]) -> Installer:
    return Installer(release, sink, tmp_path, tokens["enr"])
