"""The rules of the house that a stranger would otherwise have to remember."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kaimon.local import documents

ROOT = Path(__file__).resolve().parents[1]
OURS = {"kaimon", "lake", "tenancy", "ingest", "pipelines", "dashboards"}
FOLDERS = OURS | {"tests", "agent", "benchmarks", "deploy", "docs", "script"}


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listing.decode().split("\0") if name]


def test_every_setting_is_documented_and_every_made_document_is_current() -> None:
    for path, made in documents.documents().items():
        text = path.read_text()
        assert documents.renewed(text, made) == text, f"{path.name}: run python -m kaimon.local.documents"


def test_a_document_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="once each"):
        documents.renewed("no marks here", "made")


def test_every_settings_class_lives_where_the_documents_look() -> None:
    pattern = re.compile(r"^class \w+\((?:BaseSettings|HomeSettings|\w+Settings)\)", re.MULTILINE)
    holders = {
        path.relative_to(ROOT).as_posix()
        for path in tracked_files()
        if path.suffix == ".py" and "tests" not in path.parts and pattern.search(path.read_text())
    }
    assert holders == {f"{package.replace('.', '/')}/settings.py" for package in documents.PACKAGES}


def test_no_dependency_ships_a_top_level_name_of_ours() -> None:
    shipped = importlib.metadata.packages_distributions()
    assert {name: shipped[name] for name in FOLDERS & shipped.keys()} == {name: ["kaimon"] for name in OURS}


def test_the_wheel_holds_every_package_and_neither_tests_nor_agent() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    there = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in tracked_files()
        if path.name == "__init__.py"
    }
    assert listed == there
    assert {name.split(".")[0] for name in listed} == OURS


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    for path in tracked_files():
        if path.suffix == ".py" and "tests" not in path.parts and path.exists():
            assert path.read_text().startswith(('"""', "#!")), path.relative_to(ROOT)


def test_no_committed_file_names_this_checkouts_folder() -> None:
    # Where every machine has such a folder, to name it tells nothing; the one below is the checkout's own.
    folder = ROOT if str(ROOT.parent) in {"/", "/home", "/opt", "/root", "/srv", "/tmp", "/var/tmp"} else ROOT.parent
    needle = str(folder).encode()
    for path in tracked_files():
        if path.is_file():
            assert needle + b"/" not in path.read_bytes(), path.relative_to(ROOT)


def test_no_lock_file_records_download_addresses() -> None:
    for path in tracked_files():
        assert path.name not in {"uv.lock", "poetry.lock", "pdm.lock", "package-lock.json", "yarn.lock"}
        if path.name.startswith("requirements"):
            assert "://" not in path.read_text()


def test_each_part_imports_without_the_heavy_libraries_that_it_needs_only_sometimes() -> None:
    code = "import sys, pipelines.definitions; print('great_expectations' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
