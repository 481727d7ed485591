"""The `sensitive` and `new_behaviour` rollups: who touched credentials and keys, and for whom that is new."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

import polars as pl

from pipelines.frames import conform
from pipelines.rollups.activity import DENIED

PATTERNS: Final = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
    "/etc/sudoers", "/etc/krb5.keytab",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", ".ssh/authorized_keys",
    "ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key",
    ".aws/credentials", ".azure/msal_token_cache.json", ".config/gcloud/credentials.db",
    ".config/gcloud/application_default_credentials.json", ".kube/config", ".docker/config.json",
    ".vault-token", ".netrc", ".git-credentials", ".pgpass", ".my.cnf", ".npmrc", ".pypirc",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.keytab", "*.kdbx",
)  # fmt: skip
"""The agent's default list of sensitive files, which it documents; `tests/vectors/sensitive.json` holds both to it.

Each is an absolute path, the last whole components of a path, or `*` and the ending of a name.
"""

DAYS: Final = 28
"""How long a program must not have touched a file before it is new again."""

_KEY: Final = ["event_day", "agent_id", "process", "exe", "path"]
_TOUCH: Final = _KEY[1:]
_ROW: Final = ["time", "load_id", "cpu", "seq"]


def _expression(pattern: str) -> str:
    if pattern.startswith("*"):
        return re.escape(pattern[1:]) + "$"
    return ("^" if pattern.startswith("/") else "/") + re.escape(pattern) + "$"


def is_sensitive(path: pl.Expr) -> pl.Expr:
    """Say whether a path fits one of `PATTERNS`, as the agent says it."""
    return path.str.contains("|".join(_expression(pattern) for pattern in PATTERNS))


def pattern_of(path: pl.Expr) -> pl.Expr:
    """Return the first of `PATTERNS` that a path fits; null if none does."""
    fits = (pl.when(path.str.contains(_expression(one))).then(pl.lit(one)) for one in PATTERNS)
    return pl.coalesce(list(fits))


def sensitive(events: pl.LazyFrame) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.SENSITIVE`, sorted by its key: host, program, file.

    `count` occurrences are counted where each row stands. An event whose two paths are both sensitive touches both.
    """
    ends = [events.filter(is_sensitive(pl.col("path")))]
    led = events.filter(is_sensitive(pl.col("target_path")), pl.col("target_path") != pl.col("path"))
    ends.append(led.with_columns(path=pl.col("target_path")))
    rolled = (
        pl.concat(ends)
        .group_by(_KEY)
        .agg(
            hostname=pl.col("hostname").sort_by("received_at", "hostname").last(),
            user=pl.col("user").sort_by(_ROW).first(),
            events=pl.col("count").sum(),
            denied=pl.col("count").filter(pl.col("result").is_in(DENIED)).sum(),
            first_time=pl.col("time").min(),
            last_time=pl.col("time").max(),
        )
        .with_columns(pattern=pattern_of(pl.col("path")))
        .sort(_KEY)
        .collect(engine="streaming")
    )
    return conform(rolled, "sensitive")


def new_behaviour(touched: pl.LazyFrame, before: pl.LazyFrame, day: date) -> pl.DataFrame:
    """Return those of a day's touches whose host, program and file were not together in the `DAYS` before.

    Args:
        touched: `sensitive` of the day.
        before: `sensitive` of at least those days before; other days in it do not count.
        day: the UTC day.
    """
    known = before.filter(pl.col("event_day").is_between(day - timedelta(days=DAYS), day - timedelta(days=1)))
    new = touched.join(known.select(_TOUCH).unique(), on=_TOUCH, how="anti", nulls_equal=True)
    return conform(new.sort(_KEY).collect(), "new_behaviour")
