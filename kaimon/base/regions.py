"""Where data may be: regions of AWS in the United States, and nowhere else."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

US_REGIONS: Final = frozenset({"us-east-1", "us-east-2", "us-west-1", "us-west-2", "us-gov-east-1", "us-gov-west-1"})
"""Named one by one: a region that AWS opens tomorrow is let in by somebody who has looked where it lies."""

MODEL_PROVIDERS: Final = frozenset({"ai21", "amazon", "anthropic", "cohere", "deepseek", "meta", "mistral", "openai"})
"""With what an Amazon Bedrock model's id begins that is no profile over several regions."""

_AWS_DOMAINS: Final = ("amazonaws.com", "api.aws")


class RegionError(ValueError):
    """Data would leave the United States, or nobody can say that it would not."""


def require_us_region(region: str | None) -> str:
    """Return `region` if it lies in the United States.

    Raises:
        RegionError: it does not, or none is given.
    """
    if not region:
        raise RegionError(f"no AWS region is set: KAIMON_AWS_REGION wants one of {_all()}")
    if region not in US_REGIONS:
        raise RegionError(f"AWS region {region!r} is not in the United States; want one of {_all()}")
    return region


def require_us_endpoint(url: str, region: str) -> str:
    """Return `url` if what answers there is in `region`, by its name, or on this machine.

    Args:
        url: of an AWS service: its public name, or a VPC endpoint's.
        region: in the United States.

    Raises:
        RegionError: another region's, a host that does not name one, or plain HTTP to another machine.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.username or parts.password:
        raise RegionError("an AWS endpoint's URL holds no credentials")
    if parts.scheme in {"http", "https"} and _is_here(host):
        return url
    if parts.scheme != "https":
        raise RegionError(f"AWS endpoint {host!r} is not asked by https")
    named = any(host.endswith(f".{domain}") for domain in _AWS_DOMAINS) and require_us_region(region) in host.split(".")
    if not named:
        raise RegionError(f"AWS endpoint {host!r} is not one of AWS in {region}")
    return url


def require_us_model(model: str) -> str:
    """Return `model` if asking it in a region of the United States keeps what is said there.

    A model's own id is asked where the request goes. Of the profiles that spread requests over regions, those of the
    United States alone are let in, by name: `global.` and whatever comes tomorrow are not.

    Raises:
        RegionError: it may be asked elsewhere, or nobody can say.
    """
    provider, dot, rest = model.partition(".")
    if provider in {"us", "us-gov"}:
        provider, dot, rest = rest.partition(".")
    if provider not in MODEL_PROVIDERS or not dot or not rest:
        raise RegionError(
            f"model {model!r} may leave the United States; want a model's id, or a profile's that begins with us. or "
            f"us-gov., of {', '.join(sorted(MODEL_PROVIDERS))}"
        )
    return model


def require_https_or_here(url: str) -> str:
    """Return `url` if it is asked by https, or on this machine.

    Raises:
        ValueError: it is not, or holds credentials.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("an address holds no credentials")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here((parts.hostname or "").lower())):
        raise ValueError(f"{parts.hostname!r} is not asked by https")
    return url


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _all() -> str:
    return ", ".join(sorted(US_REGIONS))
