"""Of the folder with the agent's release nothing comes out but what was signed, as it was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.portal.agent_release import UnusableReleaseError, release_in
from tests.dashboards.portal.releases import PROGRAM, make_release


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


def test_a_release_says_its_version_and_each_file_as_the_signed_list_does(folder: Path) -> None:
    release = release_in(folder)
    assert release.version == "1.2.3"
    told = {one.name: (one.size, one.sha256) for one in release.files}
    names = (PROGRAM, "install.sh", "kaimon-release.pub")
    bodies = {name: (folder / name).read_bytes() for name in names}
    assert told == {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in bodies.items()}
    for name in (*names, "SHA256SUMS", f"{PROGRAM}.sig", "SHA256SUMS.sig"):
        assert release.read(name) == (folder / name).read_bytes()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../secret", "notes", "notes.sig", "/etc/passwd", "./install.sh", "install.sh/../../secret",
     "install.sh\0", "..\\secret", "%2e%2e/secret", "INSTALL.SH", ".sig", "install.sh.sig.sig", "install.sh "],
)  # fmt: skip
def test_a_name_that_the_list_does_not_have_leads_nowhere(folder: Path, name: str) -> None:
    assert release_in(folder).read(name) is None


def changed(name: str, body: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(body)


def removed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def with_a_path_in_its_list(folder: Path) -> None:
    sums = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(sums + f"{'0' * 64}  ../secret\n")


@pytest.mark.parametrize(
    "harm",
    [
        changed("SHA256SUMS", b""),
        with_a_path_in_its_list,
        changed("SHA256SUMS.sig", bytes(64)),
        changed("SHA256SUMS.sig", b"short"),
        changed("kaimon-release.pub", b"no key"),
        removed("SHA256SUMS"),
        removed("SHA256SUMS.sig"),
        removed("kaimon-release.pub"),
        removed(PROGRAM),
    ],
)
def test_a_folder_that_is_no_whole_signed_release_offers_nothing(folder: Path, harm: Callable[[Path], object]) -> None:
    harm(folder)
    with pytest.raises(UnusableReleaseError):
        release_in(folder)


def test_what_is_not_as_it_was_signed_is_not_handed_out(folder: Path) -> None:
    body = bytearray((folder / PROGRAM).read_bytes())
    body[0] ^= 1
    (folder / PROGRAM).write_bytes(body)
    (folder / "install.sh").unlink()
    (folder / "install.sh").symlink_to(folder.parent / "secret")
    release = release_in(folder)
    for name in (PROGRAM, "install.sh"):
        with pytest.raises(UnusableReleaseError, match="is not what SHA256SUMS names"):
            release.read(name)
    (folder / f"{PROGRAM}.sig").write_bytes(b"never this")
    with pytest.raises(UnusableReleaseError, match="no Ed25519 signature"):
        release.read(f"{PROGRAM}.sig")


def test_a_list_signed_by_another_key_is_not_believed(folder: Path) -> None:
    other = make_release(folder.parent / "other")
    (folder / "SHA256SUMS.sig").write_bytes((other / "SHA256SUMS.sig").read_bytes())
    with pytest.raises(UnusableReleaseError, match="not signed by"):
        release_in(folder)
