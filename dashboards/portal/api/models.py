"""What the API takes and answers: the one place that says so, from which its OpenAPI document is made."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Item = TypeVar("Item")
RoleName = Literal["member", "admin"]


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """RFC 9457. `code` is stable; `title` and `detail` are for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    request_id: str
    detail: str | None = None


class Page(BaseModel, Generic[Item]):
    """`next` asks for what follows, as `cursor`; null at the end."""

    items: list[Item]
    next: str | None


class Key(_Answer):
    """The key that asks."""

    key_id: str
    tenant_id: str
    label: str | None
    scopes: list[str]
    created_at: datetime
    expires_at: datetime


class Host(_Answer):
    """What enrollment knows of a host, and what its newest batch said; null where none has landed."""

    agent_id: str
    hostname: str
    token_id: str
    enrolled_at: datetime
    revoked_at: datetime | None
    last_seen: datetime | None
    agent_version: str | None
    capture_mode: str | None
    blind_spots: list[str] | None


class Token(_Answer):
    """An enrollment token, never the secret; `live_hosts` speak by it."""

    token_id: str
    prefix: str
    last_four: str
    label: str | None
    created_at: datetime
    expires_at: datetime | None
    uses: int
    max_uses: int | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    live_hosts: int


class NewToken(_Asked):
    """A token to be made."""

    label: Text | None = None
    max_uses: int = Field(default=1, ge=1, le=100_000)
    expires_in_days: int = Field(default=7, ge=1, le=3650)


class MadeToken(BaseModel):
    """A token that was made; `secret` is shown this once."""

    token: Token
    secret: str


class Revoked(BaseModel):
    """How many hosts' credentials ended with a token."""

    credentials_ended: int


class Coverage(_Answer):
    """How much of what happened in a range the tables can speak of, by the ledger."""

    first: datetime
    last: datetime
    hosts: int
    batches: int
    seen: int
    lost: int
    missing: int
    quarantined: int
    silent: int
    unknown_hours: int
    newest: datetime | None


class Event(_Answer):
    """Something that happened to a file; names are escaped as the schema's page says, and chosen by nobody we trust."""

    time: datetime
    agent_id: str
    load_id: str
    cpu: int
    seq: int
    hostname: str
    operation: str
    path: str
    target_path: str | None
    path_status: str
    process: str | None
    exe: str | None
    user: str | None
    uid: int | None
    result: int | None
    count: int


class Events(Page[Event]):
    """Newest first, and what the range's data is worth."""

    coverage: Coverage


class Hour(_Answer):
    """An hour: events, and hosts by what is known of them."""

    events: int
    complete: int
    partial: int
    unknown: int
    not_monitored: int


class Histogram(BaseModel):
    """24 hours of a UTC day, null where nothing is known yet; `events` is null if that is so of all."""

    day: date
    hours: list[Hour | None] = Field(min_length=24, max_length=24)
    events: int | None
    coverage: Coverage


class Finding(_Answer):
    """What a rule saw on a day."""

    finding_id: str
    event_day: date
    rule: str
    title: str
    severity: str
    attack_id: str | None
    state: str
    opened_day: date | None
    suppression_id: str | None
    agent_id: str | None
    hostname: str | None
    user: str | None
    process: str | None
    exe: str | None
    path: str | None
    paths: int | None
    events: int | None
    first_time: datetime | None
    last_time: datetime | None


class HostQuality(_Answer):
    """A host's day: its hours by what is known of them, and its events captured and known lost.

    `hours` is the same hour by hour: 24 verdicts, null where nothing is computed.
    """

    agent_id: str
    hostname: str
    complete: int
    partial: int
    unknown: int
    not_monitored: int
    captured: int
    lost: int
    hours: list[Literal["complete", "partial", "unknown", "not_monitored"] | None] = Field(min_length=24, max_length=24)


class Quality(BaseModel):
    """A UTC day: what its checks said (null: they have not looked), the ledger's word, and each host's hours."""

    day: date
    checks: str | None
    sealed: bool
    coverage: Coverage
    hosts: list[HostQuality]


class Report(_Answer):
    """A summary: of which period, its newest revision, and the facts it rests on."""

    period: str
    kind: Literal["day", "week"]
    start: date
    revision: int
    headline: str
    facts_digest: str
    made_at: datetime


class Schedule(_Answer):
    """When summaries are mailed: from `hour` on by the clock of `time_zone`."""

    daily: bool
    weekly: bool
    time_zone: str
    hour: int


class Recipient(_Answer):
    """An address that summaries are mailed to, once it is confirmed."""

    recipient_id: str
    address: str
    state: Literal["pending", "confirmed", "bounced"]
    created_at: datetime
    confirmed_at: datetime | None


class Mailing(BaseModel):
    """How summaries go out: `schedule` is null if none do."""

    schedule: Schedule | None
    recipients: list[Recipient]


class FullReport(Report):
    """A summary with its document."""

    document: dict[str, Any]


class Facts(BaseModel):
    """The newest facts of a period: every value with the SQL that gives it again."""

    period: str
    digest: str
    made_at: datetime
    document: dict[str, Any]


class Member(_Answer):
    """Who may look at the tenant; `name` is null once it was forgotten."""

    person_id: str
    role: RoleName
    joined_at: datetime
    name: str | None


class NewRole(_Asked):
    """A member's other role."""

    role: RoleName


class Invitation(_Answer):
    """Who joins by logging in with that address, verified."""

    invitation_id: str
    email: str
    role: RoleName
    created_at: datetime
    expires_at: datetime


class NewInvitation(_Asked):
    """Somebody to invite."""

    email: Annotated[str, StringConstraints(max_length=254)]
    role: RoleName = "member"


class Record(BaseModel):
    """A record of the audit chain: its canonical text, the digest of that, and what it says."""

    seq: int
    digest: str
    body: str
    content: dict[str, Any]


class Verification(BaseModel):
    """Whether the whole chain holds, recomputed just now; `fault` says what does not."""

    holds: bool
    records: int
    head_digest: str | None
    fault: str | None


class ErasureRequest(_Answer):
    """Who asked for the erasure of everything, when, and from when on it is carried out."""

    requested_by: str
    requested_at: datetime
    due_at: datetime


class TableHeld(_Answer):
    """A table as it is read now: its files, their bytes and rows, its first and last day (null: not kept by day)."""

    table: str
    files: int
    bytes: int
    rows: int | None
    oldest: date | None
    newest: date | None


class TableDay(_Answer):
    """A UTC day of a table (null: it is not kept by day)."""

    table: str
    day: date | None
    files: int
    bytes: int
    rows: int | None


class Retention(BaseModel):
    """How many days are kept (null: all), before which day they go, and when all is erased if nothing changes.

    `requested` is what an Admin asked for in the portal; `begun`: the erasure is under way. `tables` is what is held.
    """

    keep_days: int | None
    before: date | None
    erase_at: datetime | None
    requested: ErasureRequest | None
    begun: bool
    tables: list[TableHeld]


class Subscription(BaseModel):
    """What was agreed, its limits (null: none) and what is used of them."""

    state: str
    since: datetime | None
    ends_at: datetime | None
    max_hosts: int | None
    max_daily_events: int | None
    hosts: int
    events_today: int


class DayUse(_Answer):
    """A UTC day; each number is null where it is not known: nothing is computed of it, or it is not sealed."""

    day: date
    events: int | None
    hosts: int | None
    bytes: int | None


class Usage(BaseModel):
    """What was sent, by UTC day, in order; `bytes` are what a sealed day's events take up."""

    days: list[DayUse]
