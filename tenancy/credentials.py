"""Host credentials: who is speaking, answered from memory while nothing was revoked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import Row, and_, select, update
from sqlalchemy.exc import SQLAlchemyError

from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import read_epoch
from tenancy.keys import UnusableKeyError
from tenancy.limits import SourceLimiter
from tenancy.refusals import answering_unavailable, subscription_lapsed, too_many_events, unauthorized, unavailable
from tenancy.sealed import credential_context
from tenancy.settings import TenancySettings
from tenancy.subscriptions import COLUMNS, Subscription, subscription_in
from tenancy.tables import HOST_CREDENTIALS, HOSTS, TENANT_USE, TENANTS
from tenancy.tokens import TokenFormatError, has_shape, index_of, index_under, keyed, parse
from tenancy.usage import DailyUse, seconds_left

_REMEMBERED: Final = 100_000
_CHUNK: Final = 500
_HANGS_S: Final = 2.0
"""How long a poll may go unanswered before nobody else is made to wait for the database."""


@dataclass(frozen=True)
class HostIdentity:
    """Whom a credential stands for; the tenant always comes from here, never from a body."""

    tenant_id: str
    agent_id: str
    hostname: str
    subscription: Subscription

    @property
    def about(self) -> dict[str, str]:
        """Who it is, for logs."""
        return {"tenant": self.tenant_id, "agent_id": self.agent_id}


@dataclass(frozen=True)
class Refusal:
    """Why a credential stands for nobody, and whom it stood for if that is known."""

    detail: str
    about: dict[str, str]


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
        self.use = DailyUse(db, self._settings.usage_every_s, monotonic)
        self._lock = threading.Lock()
        self._epoch = -1
        self._known: dict[str, HostIdentity] = {}
        self._refused: dict[str, Refusal] = {}
        self._used: set[str] = set()
        self._flushed_at = monotonic()
        self._polled_at = monotonic()
        self._unanswered_since: float | None = None
        self._key = b""
        self._keyed = keyed(self._key)
        with answering_unavailable():
            db.keys.prepare()
            self.poll()

    def authenticate(self, token: str, source: str) -> HostIdentity:
        """Return whom `token` stands for; asks the database if memory does not say, so it may block.

        Args:
            token: as it came in the Authorization header.
            source: the client's address; bounds how fast it may try unknown tokens.

        Raises:
            Problem: 401 unknown or revoked; 403 subscription_lapsed; 429 too many unknown tokens from this source, or
                daily_limit; 503 the control database has been away for too long.
        """
        try:
            index = index_of(self._key, parse(token, "hst"))
        except TokenFormatError as error:
            raise unauthorized("not a host credential") from error
        if self.stale:
            raise unavailable("revocations cannot be looked up")
        with self._lock:
            found = self._refused.get(index) or self._known.get(index)
        if found is None:
            index, found = self._look_up(token, source)
        if isinstance(found, Refusal):
            raise unauthorized(found.detail, **found.about)
        if (problem := self._objection(found)) is not None:
            raise problem
        self._used.add(index)
        return found

    def authenticate_cached(self, token: str) -> HostIdentity | None:
        """Return whom `token` stands for if memory says that it is welcome; never blocks and never raises.

        None means: ask `authenticate`, which knows why.
        """
        # A checksum weeds out what nobody issued, which memory does as well.
        if not has_shape(token, "hst") or self.stale:
            return None
        index = index_under(self._keyed, token)
        with self._lock:
            found = self._known.get(index)
        if found is None or self._objection(found) is not None:
            return None
        self._used.add(index)
        return found

    def poll(self) -> None:
        """Look at the epoch; if it moved, forget everything and index by the key that is current now.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be asked.
            tenancy.keys.UnusableKeyError: the key is another now, and cannot be unwrapped.
        """
        # Taken before the look: what is older than this moment has been seen.
        began = self._monotonic()
        if self._unanswered_since is None:
            self._unanswered_since = began
        with self._db.reading() as session:
            epoch = read_epoch(session)
            key = self._key if epoch == self._epoch else self._db.keys.index_key(session)
        with self._lock:
            self._move_to(epoch, key)
            self._polled_at = began
            self._unanswered_since = None

    def run_poller(self, stop: threading.Event) -> None:
        """Poll until `stop`, blocking the calling thread; logs when the database goes away and when it is back.

        What is noted now and then is written by a thread beside it, so that no slow write delays a revocation.
        """
        keeping = threading.Thread(
            target=self._repeat, args=(stop, "notes", self.keep_notes), name="notes", daemon=True
        )
        keeping.start()
        self._repeat(stop, "revocations", self.poll)
        keeping.join()
        with suppress(SQLAlchemyError):
            self.keep_notes(now=True)

    def keep_notes(self, *, now: bool = False) -> None:
        """Write down what is noted now and then and never per request: which credentials were used, and how much.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be asked; what was noted is written next time.
        """
        self.keep_last_used(now=now)
        self.use.keep(now=now)

    def _repeat(self, stop: threading.Event, what: str, act: Callable[[], None]) -> None:
        away = False
        while not stop.wait(self._settings.revocation_poll_s):
            try:
                act()
            except (SQLAlchemyError, UnusableKeyError) as error:
                if not away:
                    get_logger(__name__).warning(f"{what}_unreadable", error=str(error))
                away = True
            else:
                if away:
                    get_logger(__name__).info(f"{what}_readable")
                away = False

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

    @property
    def stale(self) -> bool:
        """Whether revocations were not looked up for too long, so that nobody is welcome."""
        return self._monotonic() - self._polled_at > self._settings.revocation_grace_s

    def require_answers(self) -> None:
        """Do not let a request wait for a database that leaves the poller waiting.

        Raises:
            Problem: 503, it does not answer at the moment.
        """
        since = self._unanswered_since
        if since is not None and self._monotonic() - since > _HANGS_S:
            raise unavailable("the control database does not answer")

    def _move_to(self, epoch: int, key: bytes) -> None:
        if epoch != self._epoch:
            self._known.clear()
            self._refused.clear()
            self._epoch = epoch
            self._key = key
            self._keyed = keyed(key)

    def _look_up(self, token: str, source: str) -> tuple[str, HostIdentity | Refusal]:
        """Return the index under which the database knows the token, and whom it stands for."""
        self.limiter.check(source)
        self.require_answers()
        today = self._db.clock().date()
        with answering_unavailable(), self._db.reading() as session:
            # The epoch first: at worst an identity is newer than the epoch it is filed under, and forgotten early.
            epoch = read_epoch(session)
            # The key as of now: after a rotation that was not polled yet, the one in memory would find nobody.
            key = self._db.keys.index_key(session)
            index = index_of(key, token)
            row = session.execute(_find(index, today)).first()
        if row is None:
            self.limiter.charge(source)
        found = _judge(row, self._settings)
        with self._lock:
            if epoch > self._epoch:
                self._move_to(epoch, key)
            if epoch == self._epoch:
                self._remember(index, found)
        if row is None or isinstance(found, Refusal):
            return index, found
        self.use.seen(found.tenant_id, today, row.events or 0)
        if row.first_used_at is None:
            self._first_use(index, found)
        if row.sealed is None:
            self._seal(index, found, token)
        return index, found

    def _objection(self, identity: HostIdentity) -> Problem | None:
        """Return why a host that is known may not send now: by the clock and by what was counted, from memory."""
        subscription, now = identity.subscription, self._db.clock()
        if (lapse := subscription.lapse(now)) is not None:
            return subscription_lapsed(lapse, **identity.about)
        most = subscription.max_daily_events
        if most is not None and self.use.today(identity.tenant_id) >= most:
            return too_many_events(most, seconds_left(now), **identity.about)
        return None

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

    def _remember(self, index: str, found: HostIdentity | Refusal) -> None:
        # Refusals are remembered too: a revoked fleet behind one address asks for ever. A token that is unknown now
        # stays so: nobody can guess one that will be minted.
        for memory in (self._known, self._refused):
            if len(memory) >= _REMEMBERED:
                memory.clear()
        if isinstance(found, Refusal):
            self._refused[index] = found
        else:
            self._known[index] = found


def _find(index: str, today: date) -> Any:
    use_today = and_(TENANT_USE.c.tenant_id == TENANTS.c.tenant_id, TENANT_USE.c.day == today)
    return (
        select(
            HOSTS.c.tenant_id,
            HOSTS.c.agent_id,
            HOSTS.c.hostname,
            HOSTS.c.revoked_at.label("host_revoked_at"),
            HOST_CREDENTIALS.c.revoked_at,
            HOST_CREDENTIALS.c.first_used_at,
            HOST_CREDENTIALS.c.sealed,
            TENANT_USE.c.events,
            *COLUMNS,
        )
        .select_from(HOST_CREDENTIALS)
        .join(HOSTS, HOSTS.c.agent_id == HOST_CREDENTIALS.c.agent_id)
        .join(TENANTS, TENANTS.c.tenant_id == HOSTS.c.tenant_id)
        .outerjoin(TENANT_USE, use_today)
        .where(HOST_CREDENTIALS.c.token_hmac == index)
    )


def _judge(row: Row[Any] | None, settings: TenancySettings) -> HostIdentity | Refusal:
    """Return who is meant, or why nobody is."""
    if row is None:
        return Refusal("unknown credential", {})
    identity = HostIdentity(row.tenant_id, row.agent_id, row.hostname, subscription_in(row, settings))
    if row.revoked_at is not None or row.host_revoked_at is not None:
        return Refusal("the credential is revoked", identity.about)
    return identity
