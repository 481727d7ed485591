"""Host credentials: who is speaking, answered from memory while nothing was revoked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select, update
from sqlalchemy.exc import SQLAlchemyError

from kaimon.base.logs import get_logger
from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import read_epoch
from tenancy.keys import UnusableKeyError
from tenancy.limits import SourceLimiter
from tenancy.refusals import answering_unavailable, subscription_lapsed, unauthorized, unavailable
from tenancy.sealed import credential_context
from tenancy.settings import TenancySettings
from tenancy.tables import HOST_CREDENTIALS, HOSTS, TENANTS
from tenancy.tokens import TokenFormatError, index_of, parse

_REMEMBERED: Final = 100_000
_CHUNK: Final = 500


@dataclass(frozen=True)
class HostIdentity:
    """Whom a credential stands for; the tenant always comes from here, never from a body."""

    tenant_id: str
    agent_id: str
    hostname: str
    subscription: str


def boot_seconds() -> float:
    """Seconds since boot, sleep included: a machine that slept through a revocation must not trust its memory."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Authenticator:
    """One worker's memory of credentials. Thread-safe.

    It answers from memory as long as the revocation epoch stands still and was looked at lately; somebody must
    therefore keep `run_poller` going (or call `poll`), else every answer becomes 503.
    """

    def __init__(
        self,
        db: Database,
        settings: TenancySettings | None = None,
        monotonic: Callable[[], float] = boot_seconds,
        limiter: SourceLimiter | None = None,
    ) -> None:
        """Look at the epoch once.

        Raises:
            Problem: 503, the database cannot be asked.
        """
        self._db = db
        self._settings = settings or db.settings
        self._monotonic = monotonic
        self.limiter = limiter or SourceLimiter(monotonic=monotonic)
        self._lock = threading.Lock()
        self._epoch = -1
        self._known: dict[str, HostIdentity] = {}
        self._refused: dict[str, str] = {}
        self._used: set[str] = set()
        self._flushed_at = monotonic()
        self._polled_at = monotonic()
        self._key = b""
        with answering_unavailable():
            db.keys.prepare()
            self.poll()

    def authenticate(self, token: str, source: str) -> HostIdentity:
        """Return whom `token` stands for; asks the database if memory does not say, so it may block.

        Args:
            token: as it came in the Authorization header.
            source: the client's address; bounds how fast it may try unknown tokens.

        Raises:
            Problem: 401 unknown or revoked; 403 subscription_lapsed; 429 too many unknown tokens from this source;
                503 the control database has been away for too long.
        """
        try:
            index = index_of(self._key, parse(token, "hst"))
        except TokenFormatError as error:
            raise unauthorized("not a host credential") from error
        if self._stale():
            raise unavailable("revocations cannot be looked up")
        with self._lock:
            identity, refusal = self._known.get(index), self._refused.get(index)
        if refusal is not None:
            raise unauthorized(refusal)
        if identity is None:
            index, identity = self._look_up(token, source)
        if identity.subscription == "ended":
            raise subscription_lapsed()
        self._used.add(index)
        return identity

    def authenticate_cached(self, token: str) -> HostIdentity | None:
        """Return whom `token` stands for if memory says that it is welcome; never blocks and never raises.

        None means: ask `authenticate`, which knows why.
        """
        try:
            index = index_of(self._key, parse(token, "hst"))
        except TokenFormatError:
            return None
        if self._stale():
            return None
        with self._lock:
            identity = self._known.get(index)
        if identity is None or identity.subscription == "ended":
            return None
        self._used.add(index)
        return identity

    def poll(self) -> None:
        """Look at the epoch; if it moved, forget everything and index by the key that is current now.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be asked.
            tenancy.keys.UnusableKeyError: the key is another now, and cannot be unwrapped.
        """
        # Taken before the look: what is older than this moment has been seen.
        began = self._monotonic()
        with self._db.reading() as session:
            epoch = read_epoch(session)
            key = self._key if epoch == self._epoch else self._db.keys.index_key(session)
        with self._lock:
            self._move_to(epoch, key)
            self._polled_at = began

    def run_poller(self, stop: threading.Event) -> None:
        """Poll until `stop`, blocking the calling thread; logs when the database goes away and when it is back."""
        away = False
        while not stop.wait(self._settings.revocation_poll_s):
            try:
                self.poll()
                self.keep_last_used()
            except (SQLAlchemyError, UnusableKeyError) as error:
                if not away:
                    get_logger(__name__).warning("revocations_unreadable", error=str(error))
                away = True
            else:
                if away:
                    get_logger(__name__).info("revocations_readable")
                away = False
        with suppress(SQLAlchemyError):
            self.keep_last_used(now=True)

    def keep_last_used(self, *, now: bool = False) -> None:
        """Write down which credentials were used since the last time, once in `last_used_every_s`: never per request.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be asked; what was used is written next time.
        """
        began = self._monotonic()
        if not now and began - self._flushed_at < self._settings.last_used_every_s:
            return
        # Taken over in one step, so that a use in between is kept for the next time.
        used, self._used = self._used, set()
        moment, indexes = self._db.clock(), list(used)
        try:
            with self._db.transaction() as session:
                for first in range(0, len(indexes), _CHUNK):
                    some = HOST_CREDENTIALS.c.token_hmac.in_(indexes[first : first + _CHUNK])
                    session.execute(update(HOST_CREDENTIALS).where(some).values(last_used_at=moment))
        except SQLAlchemyError:
            self._used |= used
            raise
        self._flushed_at = began

    def _stale(self) -> bool:
        return self._monotonic() - self._polled_at > self._settings.revocation_grace_s

    def _move_to(self, epoch: int, key: bytes) -> None:
        if epoch != self._epoch:
            self._known.clear()
            self._refused.clear()
            self._epoch = epoch
            self._key = key

    def _look_up(self, token: str, source: str) -> tuple[str, HostIdentity]:
        """Return the index under which the database knows the token, and whom it stands for."""
        self.limiter.check(source)
        with answering_unavailable(), self._db.reading() as session:
            # The epoch first: at worst an identity is newer than the epoch it is filed under, and forgotten early.
            epoch = read_epoch(session)
            # The key as of now: after a rotation that was not polled yet, the one in memory would find nobody.
            key = self._db.keys.index_key(session)
            index = index_of(key, token)
            row = session.execute(_find(index)).first()
        if row is None:
            self.limiter.charge(source)
        identity, refusal = _judge(row)
        with self._lock:
            if epoch > self._epoch:
                self._move_to(epoch, key)
            if epoch == self._epoch:
                self._remember(index, identity, refusal)
        if identity is None:
            raise unauthorized(refusal)
        if row is not None and row.first_used_at is None:
            self._first_use(index, identity)
        if row is not None and row.sealed is None:
            self._seal(index, identity, token)
        return index, identity

    def _first_use(self, index: str, identity: HostIdentity) -> None:
        """Put a credential's first use on the audit chain, once among all workers; no reason to refuse the batch."""
        unused = (HOST_CREDENTIALS.c.token_hmac == index, HOST_CREDENTIALS.c.first_used_at.is_(None))
        use = update(HOST_CREDENTIALS).where(*unused).values(first_used_at=self._db.clock())
        try:
            with self._db.transaction() as session:
                if session.execute(use.returning(HOST_CREDENTIALS.c.agent_id)).first() is not None:
                    append(self._db, session, identity.tenant_id, "credential.first_use", identity.agent_id)
        except SQLAlchemyError as error:
            get_logger(__name__).warning("first_use_not_kept", agent_id=identity.agent_id, error=str(error))

    def _seal(self, index: str, identity: HostIdentity, token: str) -> None:
        """Seal a credential that was made before there was sealing; no reason to refuse the batch."""
        unsealed = (HOST_CREDENTIALS.c.token_hmac == index, HOST_CREDENTIALS.c.sealed.is_(None))
        try:
            with self._db.transaction() as session:
                sealed = self._db.keys.seal(session, token, credential_context(identity.agent_id))
                values = {"sealed": sealed.text, "sealed_with": sealed.key_id}
                session.execute(update(HOST_CREDENTIALS).where(*unsealed).values(values))
        except (SQLAlchemyError, UnusableKeyError) as error:
            get_logger(__name__).warning("credential_not_sealed", agent_id=identity.agent_id, error=str(error))

    def _remember(self, index: str, identity: HostIdentity | None, refusal: str) -> None:
        # Refusals are remembered too: a revoked fleet behind one address asks for ever. A token that is unknown now
        # stays so: nobody can guess one that will be minted.
        for memory in (self._known, self._refused):
            if len(memory) >= _REMEMBERED:
                memory.clear()
        if identity is None:
            self._refused[index] = refusal
        else:
            self._known[index] = identity


def _find(index: str) -> Any:
    return (
        select(
            HOSTS.c.tenant_id,
            HOSTS.c.agent_id,
            HOSTS.c.hostname,
            TENANTS.c.subscription,
            HOSTS.c.revoked_at.label("host_revoked_at"),
            HOST_CREDENTIALS.c.revoked_at,
            HOST_CREDENTIALS.c.first_used_at,
            HOST_CREDENTIALS.c.sealed,
        )
        .select_from(HOST_CREDENTIALS)
        .join(HOSTS, HOSTS.c.agent_id == HOST_CREDENTIALS.c.agent_id)
        .join(TENANTS, TENANTS.c.tenant_id == HOSTS.c.tenant_id)
        .where(HOST_CREDENTIALS.c.token_hmac == index)
    )


def _judge(row: Row[Any] | None) -> tuple[HostIdentity | None, str]:
    """Return who is meant, or why nobody is."""
    if row is None:
        return None, "unknown credential"
    if row.revoked_at is not None or row.host_revoked_at is not None:
        return None, "the credential is revoked"
    return HostIdentity(row.tenant_id, row.agent_id, row.hostname, row.subscription), ""
