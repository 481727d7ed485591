"""What the tests of several folders share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", type=float, default=0.0, help="seconds of the agent's soak, whatever --full says")
    parser.addoption("--s3", action="store_true", help="the stores of every test that has a home on a real S3 server")
    parser.addoption("--full", action="store_true", help="loads as long as promised: an hour's soak, a minute's outage")


def _load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def staging() -> ModuleType:
    """The maker of staged segments."""
    return _load("kaimon_test_staging", HERE / "lake" / "staging.py")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A throw-away PostgreSQL cluster for this run; see `tests/postgres.py`."""
    module = _load("kaimon_test_postgres", HERE / "postgres.py")
    if (reason := module.missing()) is not None:
        pytest.skip(reason)
    with module.cluster() as running:
        yield running


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Any]:
    """A stand-in for AWS that lasts for this run; see `tests/aws.py`."""
    with _load("kaimon_test_aws", HERE / "aws.py").running() as running:
        yield running


@pytest.fixture
def aws(aws_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in, to which this test and the processes that it starts are led."""
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    return aws_server


@pytest.fixture
def aws_that_leaves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in of this test's own, which it may stop."""
    with _load("kaimon_test_aws", HERE / "aws.py").running() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A real S3 server that lasts for this run; see `tests/s3.py`."""
    module = _load("kaimon_test_s3", HERE / "s3.py")
    if (reason := module.missing()) is not None:
        pytest.skip(reason)
    with module.running() as running:
        yield running


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, in a bucket of which the stores of this test and of the processes that it starts are."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.stores_url = f"s3://{s3_server.bucket(versioned=True)}/kaimon"
    monkeypatch.setenv("KAIMON_STORES_URL", s3_server.stores_url)
    return s3_server


@pytest.fixture(autouse=True)
def _on_s3(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--s3"):
        request.getfixturevalue("s3")
