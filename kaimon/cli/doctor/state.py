"""What `kaimon doctor` looks at of our own: certificate, database, keys, stores, files, settings."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kaimon.base.regions import RegionError
from kaimon.base.settings import AwsSettings
from kaimon.cli.doctor.finding import Finding, fail, looked_at, ok, warn
from lake.conditional import UnfitStoreError, require_fit
from lake.settings import STORES, LakeSettings, StoreName
from lake.stores import StoreError, local_folder
from tenancy.settings import TenancySettings

if TYPE_CHECKING:
    from ingest.settings import IngestSettings
    from tenancy.database import Database

_SOON: Final = timedelta(days=21)
_PRIVATE: Final = 0o077
_YEAR: Final = 365


def tls(settings: IngestSettings, now: datetime | None = None) -> Iterator[Finding]:
    """Say whether the certificate is valid and for how long, fits its key, and whether others may read the key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    now = now or datetime.now(UTC)
    certificate = settings.tls_certificate or settings.home / "tls" / "server.pem"
    key = settings.tls_key or settings.home / "tls" / "server.key"
    if settings.tls_certificate is None:
        if not certificate.exists():
            yield warn("tls", "no certificate is set (KAIMON_TLS_CERTIFICATE): ingest will make one for development")
            return
        yield warn("tls", "the certificate is one for development, for localhost alone: set KAIMON_TLS_CERTIFICATE")
    shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    ends = shown.not_valid_after_utc
    if not shown.not_valid_before_utc <= now < ends:
        span = f"{shown.not_valid_before_utc:%Y-%m-%d} to {ends:%Y-%m-%d}"
        yield fail("tls", f"{certificate} is valid from {span}, not today: renew it")
    elif ends - now < _SOON:
        yield warn("tls", f"{certificate} ends on {ends:%Y-%m-%d}: renew it")
    else:
        yield ok("tls", f"{certificate} is valid until {ends:%Y-%m-%d}")
    if key.stat().st_mode & _PRIVATE:
        yield fail("tls key", f"{key} is open to others ({_mode(key)}): chmod 600")
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError):
        yield fail("tls key", f"{key} is no private key in PEM without a password")
        return
    if private.public_key() == shown.public_key():
        yield ok("tls key", f"{key} fits the certificate")
    else:
        yield fail("tls key", f"{key} is not the certificate's")


def database(settings: TenancySettings) -> Iterator[Finding]:
    """Say whether the control database answers and is of this version, and whether its keys can be had.

    Nothing is migrated and no key is made.
    """
    from tenancy.database import Database, make_engine

    url = settings.control_url
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        yield warn("database", f"{url.database} is not there yet: the first command makes it")
        return
    with closing(Database(make_engine(url), settings)) as db:
        found = _revision(db)
        yield found
        if found.level == "ok":
            yield from looked_at("keys", lambda: _keys(db))


def _revision(db: Database) -> Finding:
    from tenancy.migrate import current_revision, revisions

    url = db.engine.url
    with db.engine.execution_options(kaimon_reading=True).connect() as connection:
        found = current_revision(connection)
        if db.dialect == "sqlite" and connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            return fail("database", f"{url.database} is damaged: restore it")
    known, where = revisions(), url.render_as_string(hide_password=True)
    if found == known[-1]:
        return ok("database", f"{where} is at revision {found}")
    if found is None or found in known:
        return warn("database", f"{where} is at revision {found}, not {known[-1]}: any other command migrates it")
    return fail("database", f"{where} is at revision {found}, which a newer kaimon made: do not go back")


def _keys(db: Database) -> Iterator[Finding]:
    from tenancy.rotation import list_keys

    if not list_keys(db):
        yield warn("keys", "none are made yet: the first token makes them")
        return
    db.keys.prepare()
    source = "AWS KMS" if db.settings.kms_key_id else str(db.settings.token_key_path)
    yield ok("keys", f"unwrapped, by {source}")


def stores(settings: LakeSettings) -> Iterator[Finding]:
    """Say whether each store takes an object once and only once."""
    for name in STORES:
        yield from looked_at(f"store {name}", partial(_store, name, settings))


def _store(name: StoreName, settings: LakeSettings) -> Iterator[Finding]:
    url = settings.url(name)
    if url.startswith("file:") and not local_folder(url).exists():
        yield warn(f"store {name}", f"{url} is not there yet: it is made when it is first written")
        return
    try:
        require_fit(name, settings)
    except (RegionError, StoreError, UnfitStoreError) as error:
        yield fail(f"store {name}", str(error))
    else:
        yield ok(f"store {name}", f"{url} is writable and never replaces an object")


def files(settings: TenancySettings) -> Iterator[Finding]:
    """Say which of our files others than their owner may read."""
    home = settings.home
    if not home.exists():
        yield warn("files", f"{home} is not there yet")
        return
    secret = [settings.token_key_path, settings.audit_key_path, home / "tls" / "server.key"]
    secret += [home / "agent" / "credential.json", *home.glob("control.db*"), *home.glob("*.token")]
    open_ones = [path for path in secret if path.exists() and path.stat().st_mode & _PRIVATE]
    for path in open_ones:
        yield fail("files", f"{path} is open to others ({_mode(path)}): chmod 600")
    if home.stat().st_mode & _PRIVATE:
        yield warn("files", f"others may look into {home} ({_mode(home)}), where events are: chmod 700")
    elif not open_ones:
        yield ok("files", f"only their owner can read {home} and the keys")


def weak(ingest: IngestSettings, tenancy: TenancySettings, lake: LakeSettings, aws: AwsSettings) -> Iterator[Finding]:
    """Say which settings weaken what kaimon promises."""
    found = list(_weak(ingest, tenancy, lake, aws))
    yield from found
    if not found:
        yield ok("settings", "none weakens what is promised")


def _weak(ingest: IngestSettings, tenancy: TenancySettings, lake: LakeSettings, aws: AwsSettings) -> Iterator[Finding]:
    if not _is_loopback(ingest.host) and ingest.tls_certificate is None:
        yield fail("settings", "KAIMON_HOST is open to the network with a certificate for development")
    for network in ingest.metrics_from:
        if not network.is_private:
            yield fail("settings", f"KAIMON_METRICS_FROM lets {network} read /metrics, which names tenants")
    if tenancy.revocation_poll_s > 0.5:
        late = f"{tenancy.revocation_poll_s:g} s"
        yield fail("settings", f"KAIMON_REVOCATION_POLL_S is {late}: a revoked token is refused that late, not in 1 s")
    if tenancy.revocation_grace_s > 30:
        late = f"{tenancy.revocation_grace_s:g} s"
        yield warn(
            "settings", f"KAIMON_REVOCATION_GRACE_S is {late}: so long may a revoked token send without a database"
        )
    if lake.access_retention_days < _YEAR:
        days = lake.access_retention_days
        yield warn("settings", f"KAIMON_ACCESS_RETENTION_DAYS is {days}: the access log is promised for a year")
    if lake.access_flush_s > 60:
        lost = f"{lake.access_flush_s:g} s"
        yield warn(
            "settings", f"KAIMON_ACCESS_FLUSH_S is {lost}: a process that is killed loses as much of the access log"
        )
    url = tenancy.control_url
    plain = url.query.get("sslmode") not in {"verify-ca", "verify-full"}
    if url.get_backend_name() != "sqlite" and url.host and not _is_loopback(url.host) and plain:
        yield fail("settings", "KAIMON_DATABASE_URL goes over the network and does not say sslmode=verify-full")
    if aws.aws_endpoint_url is not None and aws.aws_endpoint_url.startswith("http:"):
        yield warn("settings", "KAIMON_AWS_ENDPOINT_URL is a stand-in on this machine, not AWS")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")


def _mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"
