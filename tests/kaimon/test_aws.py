"""One way to AWS, and where it may lead."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws
from pydantic import ValidationError

from kaimon.base.aws import AwsAwayError, AwsError, aws_client, aws_session, calling
from kaimon.base.regions import US_REGIONS, RegionError, require_us_endpoint, require_us_model, require_us_region
from kaimon.base.settings import AwsSettings

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("kaimon", "lake", "tenancy", "ingest", "pipelines", "dashboards")
THE_FACTORY = Path("kaimon/base/aws.py")


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials as a role gives them, and an AWS inside this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


@pytest.mark.parametrize("region", ["eu-central-1", "ca-central-1", "us-iso-east-1", "us-east-3", "", None])
def test_a_region_that_is_not_known_to_lie_in_the_united_states_is_refused(region: str | None) -> None:
    with pytest.raises(RegionError):
        require_us_region(region)
    if region:
        with pytest.raises(ValidationError, match="not in the United States"):
            AwsSettings(aws_region=region)
    # Whoever goes around the validation comes no further.
    for make in (aws_session, lambda settings: aws_client("kms", settings)):
        with pytest.raises(RegionError):
            make(AwsSettings.model_construct(aws_region=region, aws_endpoint_url=None))


@pytest.mark.parametrize("region", sorted(US_REGIONS))
def test_a_client_speaks_to_its_region_and_no_other(role: None, region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client = aws_client("kms", AwsSettings(aws_region=region))
    assert client.meta.region_name == region
    assert client.meta.endpoint_url == f"https://kms.{region}.amazonaws.com"


def test_an_address_in_the_environment_does_not_lead_a_client_elsewhere(
    role: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://kms.eu-west-1.amazonaws.com")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "https://kms.eu-west-1.amazonaws.com")
    assert aws_client("kms", AwsSettings(aws_region="us-west-2")).meta.endpoint_url.startswith("https://kms.us-west-2.")


@pytest.mark.parametrize(
    "url",
    [
        "https://kms.us-east-1.amazonaws.com",
        "https://kms-fips.us-east-1.amazonaws.com",
        "https://vpce-0123-abcd.kms.us-east-1.vpce.amazonaws.com",
        "https://kms.us-east-1.api.aws",
        "http://127.0.0.1:5000",
        "http://[::1]:5000",
        "http://localhost:5000",
    ],
)
def test_an_endpoint_in_the_region_or_on_this_machine_is_taken(url: str) -> None:
    assert require_us_endpoint(url, "us-east-1") == url


@pytest.mark.parametrize(
    "url",
    [
        "https://kms.eu-west-1.amazonaws.com",
        "https://kms.us-west-2.amazonaws.com",
        "http://kms.us-east-1.amazonaws.com",
        "https://kms.amazonaws.com",
        "https://us-east-1.example.com",
        "https://kms.us-east-1.amazonaws.com.example.com",
        "https://kms.us-east-1.amazonaws.com@example.com",
        "https://somebody:secret@kms.us-east-1.amazonaws.com",
        "https://kms.us-east-1.amazonaws.com.cn",
        "ftp://127.0.0.1",
        "kms.us-east-1.amazonaws.com",
    ],
)
def test_an_endpoint_elsewhere_is_refused(role: None, url: str) -> None:
    with pytest.raises(RegionError) as refused:
        aws_client("kms", AwsSettings(aws_region="us-east-1", aws_endpoint_url=url))
    assert "secret" not in str(refused.value)


def test_a_users_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE00")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    with pytest.raises(AwsError, match="want a role's") as refused:
        aws_client("kms", AwsSettings(aws_region="us-east-1"))
    assert "AKIA" not in str(refused.value)
    assert "not-to-be-shown" not in str(refused.value)


def test_no_credentials_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AwsError, match="us-east-1: the environment has none"):
        aws_client("kms", AwsSettings(aws_region="us-east-1"))


def test_what_aws_answers_says_what_was_wanted(role: None) -> None:
    client = aws_client("kms", AwsSettings(aws_region="us-east-1"))
    nobodys = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(AwsError, match="decrypt: AWS answered NotFoundException") as no, calling("decrypt"):
        client.describe_key(KeyId=nobodys)
    assert not isinstance(no.value, AwsAwayError)


def test_nobody_who_answers_is_told_from_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    # Port 9 of this machine: nobody listens there.
    client = aws_client("kms", AwsSettings(aws_region="us-east-1", aws_endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(AwsAwayError, match=r"decrypt the key: .*127\.0\.0\.1:9"), calling("decrypt the key"):
        client.list_keys()


def callers(source: str) -> list[int]:
    """Return the lines that import boto3 or botocore, or import a module by such a name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            names = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        if any(name.partition(".")[0] in {"boto3", "botocore", "aiobotocore", "aioboto3"} for name in names):
            found.append(node.lineno)
    return found


def test_nobody_but_the_factory_makes_a_client() -> None:
    listing = subprocess.run(["git", "ls-files", "-z", *PRODUCT], cwd=ROOT, capture_output=True, check=True).stdout
    files = [Path(name) for name in listing.decode().split("\0") if name.endswith(".py")]
    assert THE_FACTORY in files
    holders = {path for path in files if callers((ROOT / path).read_text())}
    assert holders == {THE_FACTORY}


@pytest.mark.parametrize(
    "source",
    ["import boto3", "from botocore import session", "import boto3.session as s", "importlib.import_module('boto3')"],
)
def test_a_module_that_makes_clients_itself_would_be_found(source: str) -> None:
    assert callers(source) == [1]


def test_aws_is_not_loaded_by_those_who_do_not_ask_for_it() -> None:
    code = "import sys, kaimon.base.aws, ingest.app, kaimon.cli.token; print('boto3' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-sonnet-4-20250514-v1:0",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "us-gov.anthropic.claude-3-7-sonnet-20250219-v1:0",
        "amazon.nova-lite-v1:0",
        "us.amazon.nova-lite-v1:0",
    ],
)
def test_a_model_that_is_asked_in_the_united_states_alone_is_taken(model: str) -> None:
    assert require_us_model(model) == model


@pytest.mark.parametrize(
    "model",
    [
        "eu.anthropic.claude-sonnet-4-20250514-v1:0",
        "apac.amazon.nova-lite-v1:0",
        "global.anthropic.claude-sonnet-4-20250514-v1:0",
        "US.anthropic.claude-sonnet-4-20250514-v1:0",
        "us.eu.anthropic.claude-sonnet-4-20250514-v1:0",
        "us.us.anthropic.claude-sonnet-4-20250514-v1:0",
        "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-20250514-v1:0",
        "arn:aws:bedrock:us-west-2:123456789012:application-inference-profile/abcdefghijkl",
        "nobody.knows-v1:0",
        "anthropic.",
        "anthropic",
        "us.",
        "",
    ],
)
def test_a_model_that_may_be_asked_elsewhere_is_refused(model: str) -> None:
    with pytest.raises(RegionError, match="may leave the United States"):
        require_us_model(model)
