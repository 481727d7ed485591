"""Settings of the portal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, FilePath, SecretStr, field_validator, model_validator

from kaimon.base.regions import require_https_or_here
from kaimon.base.settings import HomeSettings

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class PortalSettings(HomeSettings):
    """Where the portal listens, who vouches for people, and how long they stay logged in."""

    portal_host: str = Field(default="127.0.0.1", description="Address that the portal listens on.")
    portal_port: int = Field(default=8444, ge=1, le=65535, description="Port that the portal listens on; TLS only.")
    portal_url: str = Field(
        default="https://localhost:8444",
        description="Address of the portal as browsers know it, without a path; requests that change something must "
        "come from a page of it.",
    )
    portal_tls_certificate: Path | None = Field(
        default=None,
        description="Certificate chain (PEM) that the portal shows; without it, the development certificate under "
        "`tls/` in the home.",
    )
    portal_tls_key: Path | None = Field(default=None, description="Its private key: PEM, PKCS#8, not encrypted.")
    ingest_url: str = Field(
        default="https://localhost:8443",
        pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
        description="Address of ingest as hosts know it, without a path; the line that the page Hosts shows names it.",
    )
    portal_agent_folder: DirectoryPath | None = Field(
        default=None,
        description="Folder with a signed release of the agent, as `script/package-agent` makes it, that the page "
        "Security hands out. Without it there is no download.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="The identity provider's issuer (OpenID Connect), by `https`; only a portal on this machine may "
        "use one on this machine by `http`. Without it nobody can log in.",
    )
    oidc_ca: FilePath | None = Field(
        default=None,
        description="Certificates (PEM) of the authorities trusted for the provider; by default those that the public "
        "web's are signed by.",
    )
    oidc_client_id: str = Field(default="kaimon", description="What the provider calls this portal.")
    oidc_client_secret: SecretStr | None = Field(
        default=None,
        description="The client's secret, or a reference to one: `aws-secret:NAME` or `aws-secret:NAME#FIELD`; "
        "without it the client is a public one, with PKCE alone.",
    )
    oidc_require_mfa: bool = Field(
        default=False,
        description="Let in only whom the provider says to have proved themselves twice: `amr` with `mfa`, or an "
        "`acr` of `KAIMON_OIDC_MFA_ACR`.",
    )
    oidc_mfa_acr: list[str] = Field(
        default=[], description="Values of `acr`, as a JSON list, that mean more than one factor; they are asked for."
    )
    session_idle_minutes: float = Field(
        default=60.0, gt=0, description="Minutes after which a session that nobody uses is over."
    )
    session_hours: float = Field(default=12.0, gt=0, description="Hours after which any session is over.")

    api_per_minute: int = Field(
        default=600, ge=1, description="Requests a minute that one API key may make; more are refused with 429."
    )
    api_queries: int = Field(
        default=2, ge=1, description="Queries over events that the API runs at once, each within the limits of a query."
    )

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> Self:
        if (self.portal_tls_certificate is None) != (self.portal_tls_key is None):
            raise ValueError("portal_tls_certificate and portal_tls_key: give both or neither")
        return self

    @model_validator(mode="after")
    def _login_is_safe_on_its_way(self) -> Self:
        url = urlsplit(self.portal_url)
        if url.scheme != "https" or not url.netloc or url.path or url.query or url.fragment:
            raise ValueError("portal_url: want https://host[:port] and nothing after it")
        if self.oidc_issuer is not None:
            require_https_or_here(self.oidc_issuer)
            if urlsplit(self.oidc_issuer).scheme != "https" and not self.is_local:
                raise ValueError("oidc_issuer: a development provider serves a portal on this machine only")
        return self

    @property
    def is_local(self) -> bool:
        """Whether browsers elsewhere cannot mean this portal."""
        return urlsplit(self.portal_url).hostname in LOOPBACK and self.portal_host in LOOPBACK

    @property
    def callback(self) -> str:
        """Where the provider sends people back to."""
        return f"{self.portal_url}/callback"


class StripeSettings(HomeSettings):
    """The payment processor: what it signs its events with, and what the portal asks it."""

    stripe_webhook_secret: SecretStr | None = Field(
        default=None,
        description="What Stripe signs its events with (`whsec_…`), or a reference to a secret that holds it: "
        "`aws-secret:NAME` or `aws-secret:NAME#FIELD`. Several, separated by commas, while one takes the place of "
        "another. Without it `/stripe/events` is not there.",
    )
    stripe_api_key: SecretStr | None = Field(
        default=None,
        description="The key that the portal asks Stripe with (a restricted one, `rk_…`), or a reference to one. "
        "Without it nobody can subscribe in the portal, and no invoice is shown.",
    )
    stripe_mode: Literal["live", "test"] = Field(
        default="live", description="Events and keys of the other mode are refused: what is a test there pays nothing."
    )
    stripe_price: str | None = Field(
        default=None, description="Id of the price (`price_…`) that a tenant subscribes to; without it none can."
    )
    stripe_api_url: str | None = Field(
        default=None,
        description="Address of Stripe's API if not its public one: a proxy by `https`, or a stand-in on this machine.",
    )
    stripe_pages: list[str] = Field(
        default=["https://checkout.stripe.com", "https://billing.stripe.com", "https://invoice.stripe.com"],
        description="Origins of Stripe's pages, as a JSON list; the portal sends nobody, and links, anywhere else.",
    )
    stripe_timeout_s: float = Field(default=5.0, gt=0, description="Seconds that a page waits for Stripe.")
    stripe_tolerance_s: int = Field(
        default=300, ge=1, le=3600, description="Seconds after which the signature of an event is too old."
    )

    @field_validator("stripe_pages")
    @classmethod
    def _origins(cls, pages: list[str]) -> list[str]:
        for page in pages:
            parts = urlsplit(require_https_or_here(page))
            if page != f"{parts.scheme}://{parts.netloc}" or not re.fullmatch(r"[a-z0-9.:-]+", parts.netloc):
                raise ValueError(f"stripe_pages: {page!r} is no origin; want https://host")
        return pages

    @field_validator("stripe_api_url")
    @classmethod
    def _safe_on_its_way(cls, url: str | None) -> str | None:
        return url and require_https_or_here(url).rstrip("/")
