"""The release itself: the same bytes anywhere, static programs, good signatures, a bill that tells the truth."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[3]
ARCHES = ("amd64", "arm64")
AGENT = ROOT / "build" / "kaimon-agent"


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def verify(agent: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([agent, "verify", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_anybody_makes_the_same_bytes_in_another_folder_without_the_key(release: Any, tmp_path: Path) -> None:
    other = tmp_path / "some where" / "else"
    other.mkdir(parents=True)
    for name in ("agent", "script", "deploy/agent", "pyproject.toml"):
        source = ROOT / name
        (other / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, other / name)
        else:
            shutil.copy(source, other / name)
    (other / ".venv").symlink_to(ROOT / ".venv")
    (other / "build").mkdir()
    (other / "build" / "tools").symlink_to(ROOT / "build" / "tools")
    # A remark changes no byte of a program, but makes Go compile what it would else take from its cache.
    for source in (other / "agent").rglob("*.go"):
        source.write_text(source.read_text() + "\n// a remark\n")
    made = release.make(
        "--release-key", release.public, at=other,
        TZ="Asia/Tokyo", LANG="ja_JP.UTF-8", GOAMD64="v3", GOFLAGS="-tags=other", GOEXPERIMENT="nodwarf5",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    theirs = digests(other / "dist")
    assert theirs == {name: digest for name, digest in digests(release.folder).items() if not name.endswith(".sig")}


def elf(raw: bytes) -> dict[str, Any]:
    """The machine, the kinds of program headers and the names of sections of a 64-bit little-endian program."""
    assert raw[:6] == b"\x7fELF\x02\x01"
    kind, machine = struct.unpack_from("<HH", raw, 16)
    programs, sections = struct.unpack_from("<QQ", raw, 32)
    each, count, section_size, section_count, names_at = struct.unpack_from("<HHHHH", raw, 54)
    headers = [struct.unpack_from("<IIQQQQ", raw, sections + number * section_size) for number in range(section_count)]
    names = raw[headers[names_at][4] : headers[names_at][4] + headers[names_at][5]]
    return {
        "type": kind,
        "machine": machine,
        "segments": {struct.unpack_from("<I", raw, programs + number * each)[0] for number in range(count)},
        "sections": {names[header[0] :].split(b"\0", 1)[0].decode() for header in headers},
    }


@pytest.mark.parametrize(("arch", "machine"), [("amd64", 62), ("arm64", 183)])
def test_each_program_is_static_stripped_small_and_names_no_folder(release: Any, arch: str, machine: int) -> None:
    raw = release.binary(arch).read_bytes()
    made = elf(raw)
    assert made["machine"] == machine
    assert made["type"] == 2
    assert not made["segments"] & {2, 3}, "it asks for a dynamic linker"
    assert ".text" in made["sections"]
    assert not {name for name in made["sections"] if name.startswith((".debug", ".zdebug", ".symtab", ".dynamic"))}
    assert len(raw) < 12_000_000
    for folder in (str(ROOT), str(release.folder.parent), str(Path.home())):
        assert len(folder) < 6 or folder.encode() not in raw


@pytest.mark.parametrize("arch", ARCHES)
def test_each_program_runs_and_says_its_version(release: Any, arch: str) -> None:
    native = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    emulator = {"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[arch]
    if native != arch and shutil.which(emulator) is None:
        pytest.skip(f"needs {emulator} (qemu-user-static)")
    command = [str(release.binary(arch))] if native == arch else [emulator, str(release.binary(arch))]
    said = subprocess.run([*command, "version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == f"kaimon-agent {release.version}\n"
    checked = subprocess.run([*command, "verify", release.folder / "SHA256SUMS"], capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


def test_every_file_is_listed_and_signed_and_openssl_and_the_agent_agree(release: Any) -> None:
    files = {path.name for path in release.folder.iterdir() if path.suffix != ".sig"}
    listed = dict(reversed(line.split("  ")) for line in (release.folder / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == files - {"SHA256SUMS"}
    assert len([name for name in files if name.endswith((".deb", ".rpm"))]) == 4
    for name, digest in listed.items():
        assert hashlib.sha256((release.folder / name).read_bytes()).hexdigest() == digest
    for name in files:
        file = release.folder / name
        assert len(Path(f"{file}.sig").read_bytes()) == 64
        said = release.openssl("pkeyutl", "-verify", "-pubin", "-inkey", release.public, "-rawin", "-in", file,
                       "-sigfile", f"{file}.sig")  # fmt: skip
        assert said == b"Signature Verified Successfully\n"
        done = verify(release.binary(), file)
        assert done.returncode == 0, done.stderr
        fingerprint = hashlib.sha256(
            release.openssl("pkey", "-pubin", "-in", release.public, "-outform", "DER")
        ).hexdigest()
        assert done.stdout == f"{file}: good signature by the key {fingerprint}\n"


def test_verify_refuses_what_the_key_did_not_sign(release: Any, tmp_path: Path) -> None:
    copy = release.copy(tmp_path / "copy")
    agent, file, signature = release.binary(), copy.binary(), Path(f"{copy.binary()}.sig")
    good = file.read_bytes()
    elsewhere = tmp_path / "elsewhere.sig"
    shutil.copy(signature, elsewhere)
    assert verify(agent, "--signature", elsewhere, file, "--key", release.public).returncode == 0

    stranger = release.new_key(tmp_path / "stranger.pem")
    release.openssl("pkey", "-in", stranger, "-pubout", "-out", tmp_path / "stranger.pub")
    assert verify(agent, file, "--key", tmp_path / "stranger.pub").returncode == 1
    for content in (good[:-1], good + b"\0", good[:100] + b"\xff" + good[101:], b""):
        file.write_bytes(content)
        done = verify(agent, file)
        assert (done.returncode, done.stdout) == (1, "")
        assert "is not what the key" in done.stderr
    file.write_bytes(good)
    copy.sign(file.name, stranger)
    assert verify(agent, file).returncode == 1
    signature.unlink()
    assert verify(agent, file).returncode == 1


def test_a_build_without_a_release_key_trusts_nobody(release: Any) -> None:
    done = verify(AGENT, release.binary())
    assert done.returncode == 2
    assert "--key" in done.stderr
    assert verify(AGENT, release.binary(), "--key", release.public).returncode == 0


@pytest.mark.parametrize("wrong", ["others may read it", "another kind of key", "no key"])
def test_nothing_is_made_with_a_key_that_should_not_sign(release: Any, wrong: str, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    if wrong == "no key":
        key.write_text("hello")
        key.chmod(0o600)
    else:
        release.new_key(key, algorithm="EC" if wrong == "another kind of key" else "ed25519")
    if wrong == "others may read it":
        key.chmod(0o640)
    made = release.make("--key", key, "--out", tmp_path / "dist")
    assert made.returncode == 1
    assert not (tmp_path / "dist").exists()
    assert "key" in made.stderr


def test_a_development_key_is_made_once_and_kept_to_its_owner(release: Any, tmp_path: Path) -> None:
    home, made = tmp_path / "home", []
    for number in range(2):
        done = release.make("--arch", "amd64", "--out", tmp_path / f"dist{number}", KAIMON_HOME=str(home))
        assert done.returncode == 0, done.stderr
        made.append(digests(tmp_path / f"dist{number}"))
    [key] = [path for path in home.rglob("*") if path.is_file()]
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert made[0] == made[1]
    assert made[0]["kaimon-release.pub"] != digests(release.folder)["kaimon-release.pub"]


def test_a_folder_of_something_else_is_never_replaced(release: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    assert release.make("--key", release.key, "--out", tmp_path).returncode == 1
    assert (tmp_path / "thesis").read_text() == "mine"


def test_the_signing_key_is_in_no_file(release: Any) -> None:
    lines = release.key.read_text().splitlines()
    for path in release.folder.iterdir():
        raw = path.read_bytes()
        assert b"PRIVATE KEY" not in raw
        assert lines[1].encode() not in raw


@pytest.mark.parametrize("arch", ARCHES)
def test_the_bill_of_materials_is_valid_and_names_all_that_is_in_the_program(release: Any, arch: str) -> None:
    text = Path(f"{release.binary(arch)}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    root = bill["metadata"]["component"]
    raw = release.binary(arch).read_bytes()
    assert (root["name"], root["version"]) == ("kaimon-agent", release.version)
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(raw).hexdigest()}]
    assert bill["metadata"]["timestamp"].startswith("2026-09-21T")

    go = subprocess.run([ROOT / "script" / "build-agent", "--print-go"], capture_output=True, text=True, check=True)
    lines = subprocess.run(
        [go.stdout.strip(), "version", "-m", release.binary(arch)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    modules = {tuple(line.split("\t")[2:4]) for line in lines if line.startswith("\tdep\t")}
    assert len(modules) >= 3
    libraries = {(c["name"], c["version"]) for c in bill["components"] if c["type"] == "library"}
    assert libraries == modules | {("std", lines[0].rsplit(" ", 1)[1])}

    suffix = {"amd64": "x86", "arm64": "arm64"}[arch]
    objects = {path.name: path for path in (ROOT / "agent" / "internal" / "probe").glob(f"*_{suffix}_bpfel.o")}
    files = {c["name"]: c for c in bill["components"] if c["type"] == "file"}
    assert objects.keys() == files.keys() != set()
    for name, component in files.items():
        content = objects[name].read_bytes()
        assert component["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
        assert content in raw
        assert component["licenses"]
    [depends] = [d["dependsOn"] for d in bill["dependencies"] if d["ref"] == root["bom-ref"]]
    assert set(depends) == {component["bom-ref"] for component in bill["components"]}
