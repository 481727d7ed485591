"""Computes the facts of one tenant's day: every value with its unit, its previous value and the SQL that gives it."""

# ruff: noqa: S608 - the statements are shown, not run, and hold nothing but our own words and a date

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal

import polars as pl

from lake.columns import CAUSES
from lake.quarantined import REPLAYED
from lake.schema import OPERATIONS
from pipelines.findings.rules import SEVERITIES
from pipelines.summaries.attention import OPEN, matters, over_week, tell
from pipelines.summaries.blind_spots import known
from pipelines.summaries.document import VERSION, Entity, Facts, Hour, Matter, Status, Unit, Value
from pipelines.summaries.gathered import Day
from pipelines.summaries.numbers import show_change, show_count, show_moment, show_percent, whole

URGENT: Final = ("critical", "high")
MEDIAN_DAYS: Final = 28
LEAST_DAYS: Final = 7
"""Fewer days than this have no median worth a comparison."""
LEAST_WEEKS: Final = 3
"""And fewer weeks than this."""
STATUS_RULE: Final = (
    "worse when an event is unaccounted for, when a critical or high finding is new, or when more events were lost or "
    "more host-hours are unknown than on the day before; better when fewer of these or fewer open critical and high "
    "findings, once the day is over; stable otherwise; first when there is no day before to compare with."
)
WEEK_STATUS_RULE: Final = (
    STATUS_RULE.replace("on the day before", "in the week before").replace("the day is", "the week is")
).replace("no day before", "no week before")
_MENTION_IF_ANY: Final = (
    "days.missing",
    "findings.urgent",
    "blind_spots.count",
    "hours.unknown",
    "hours.partial",
    "accounting.lost",
    "accounting.unaccounted",
    "hosts.cloned",
    "quarantine.lines",
    "events.denied",
    "acts.access",
    "acts.deletion",
    "acts.alarms",
)
_ACTS: Final[tuple[tuple[str, str, str], ...]] = (
    ("total", "Acts on the audit chain", ""),
    ("access", "Changes of people, roles, tokens and keys", "^(member|person|token|api_key|keys?)[.]"),
    ("signins", "Logins to the portal", "^session[.]start$"),
    ("hosts", "Acts on hosts: enrolled, first seen, revoked", "^(host|credential)[.]"),
    ("retention", "Acts of retention", "^retention[.]"),
    (
        "deletion",
        "Changes of what is kept, and deletions",
        "^(retention[.](policy|drop)|tenant[.]erase)",
    ),
    ("alarms", "Alarms raised", "^alarm[.]raise$"),
)
"""Values of `acts`: name, label, and what an act's name must match."""
LINES_SQL: Final = f"count(*) - 2 * count(*) FILTER (WHERE code = '{REPLAYED}')"
"""Lines in quarantine: each mark stands beside the line that has left."""
_LOST: Final = " + ".join(f"lost_{cause}" for cause in CAUSES)
_LOADS: Final = (
    "SELECT agent_id, load_id, min(sent_at) AS sent, max(sent_at) AS sent_last, min(received_at) AS received, "
    "max(received_at) AS received_last FROM batches WHERE outcome = 'landed' AND NOT final"
)
_TAKE_TURNS: Final = (
    "a.agent_id = b.agent_id AND a.load_id < b.load_id AND a.sent < b.sent_last AND b.sent < a.sent_last "
    "AND a.received < b.received_last AND b.received < a.received_last"
)
_NAMES: Final = {"process": '"process"', "user": 'coalesce("user", \'uid \' || "uid")'}


def build_facts(today: Day, previous: Facts | None) -> Facts:
    """Compute the facts of a day; `previous` are those of the day before, if there are final ones."""
    before = {} if previous is None else previous.values
    values = _Values(today, {name: value.value for name, value in before.items()})
    values.activity()
    values.knowledge()
    entities: dict[str, Entity] = {}
    values.attention()
    open_ones = today.findings if today.span.kind == "day" else over_week(today.findings, today.span.last)
    told = [values.matter(row, f"matter_{place + 1}", entities) for place, row in enumerate(matters(open_ones))]
    processes = values.rank("process", today.processes, entities)
    users = values.rank("user", today.users, entities)
    return Facts(
        version=VERSION,
        tenant=today.tenant,
        period=today.span.kind,
        period_start=today.day.isoformat(),
        provisional=today.as_of is not None,
        as_of=today.as_of,
        status=_status(values.made, has_previous=previous is not None, over=today.as_of is None),
        status_rule=STATUS_RULE if today.span.kind == "day" else WEEK_STATUS_RULE,
        values=values.made,
        entities=entities,
        processes=processes,
        users=users,
        blind_spots=known(today.blind_spots),
        hours=_hours(today),
        must_mention=_must_mention(values.made),
        accounting=today.accounting,
        matters=told,
        decisions=_decisions(values.made, told),
    )


class _Values:
    """Makes values one after another; each knows its table, its day and its previous value."""

    def __init__(self, today: Day, before: dict[str, int | float | None]) -> None:
        self.today = today
        self.before = before
        self.made: dict[str, Value] = {}

    def activity(self) -> None:
        rows = self.today.activity
        self.count("events.total", "File events", "events", rows["events"].sum(), "activity", "sum(events)")
        for operation in OPERATIONS:
            events = rows.filter(pl.col("operation") == operation)["events"].sum()
            where = f"operation = '{operation}'"
            self.count(
                f"events.{operation}", f"Operations: {operation}", "events", events, "activity", "sum(events)", where
            )
        self.count("events.denied", "Refused by the kernel", "events", rows["denied"].sum(), "activity", "sum(denied)")
        self.count("paths.distinct", "Different paths", "paths", self.today.paths, "events", "count(DISTINCT path)")
        total, past = self.made["events.total"], self.before.get("events.total")
        if self.today.as_of is not None:
            past = None  # a part of a day says nothing against a whole one
        change = 100 * (float(total.value or 0) - past) / past if past else None
        sql = f"SELECT round(100.0 * (({total.sql}) - {past}) / {past}) AS value" if past else "SELECT NULL AS value"
        shown = None if change is None else whole(change)
        self.put("events.change", "Change of file events", "percent", shown, show_change(shown), sql)

    def knowledge(self) -> None:
        rows = self.today.completeness
        monitored = rows.filter(pl.col("state") != "not_monitored")
        hosts = "count(DISTINCT agent_id)"
        reported = (pl.col("seen") > 0) | (pl.col("covered_s") > 0)
        on = "state <> 'not_monitored'"
        for name, label, where, chosen in (
            ("expected", "Monitored hosts", on, pl.lit(value=True)),
            ("reporting", "Hosts that reported", f"{on} AND (seen > 0 OR covered_s > 0)", reported),
            ("silent", "Hosts that fell silent", "state = 'unknown'", pl.col("state") == "unknown"),
        ):
            number = monitored.filter(chosen)["agent_id"].n_unique()
            self.count(f"hosts.{name}", label, "hosts", number, "completeness", hosts, where)
        self.count(
            "hours.monitored", "Monitored host-hours", "host-hours", monitored.height, "completeness", "count(*)", on
        )
        if self.today.span.kind == "week":
            missing = self.today.span.days - rows["event_day"].n_unique()
            sql = f"SELECT 7 - count(DISTINCT event_day) AS value FROM completeness WHERE {self.on()}"
            self.put("days.missing", "Days that are not in these numbers", "days", missing, show_count(missing), sql)
        for state in ("complete", "partial", "unknown"):
            number = rows.filter(pl.col("state") == state).height
            label = f"{state.capitalize()} host-hours"
            self.count(f"hours.{state}", label, "host-hours", number, "completeness", "count(*)", f"state = '{state}'")
        for name, label in (
            ("seen", "Seen by the hosts' kernels"),
            ("captured", "Delivered"),
            ("filtered", "Filtered on the host"),
            ("pending", "Change in open windows"),
            ("unaccounted", "Unaccounted"),
        ):
            self.count(f"accounting.{name}", label, "events", rows[name].sum(), "completeness", f"sum({name})")
        lost = rows.select(pl.sum_horizontal(f"lost_{cause}" for cause in CAUSES).sum()).item()
        self.count("accounting.lost", "Known lost", "events", lost, "completeness", f"sum({_LOST})")
        captured, unaccounted = rows["captured"].sum(), max(rows["unaccounted"].sum(), 0)
        wanted = captured + lost + unaccounted
        share = 100 * captured / wanted if wanted else None
        sql = (
            f"SELECT 100.0 * sum(captured) / nullif(sum(captured) + sum({_LOST}) + greatest(sum(unaccounted), 0), 0)"
            f" AS value FROM completeness WHERE {self.on()}"
        )
        self.put("coverage.share", "Delivered of what was seen and kept", "percent", share, show_percent(share), sql)
        self.count("quarantine.lines", "Lines in quarantine", "lines", self.today.quarantined, "quarantine", LINES_SQL)
        clones = (
            f"WITH loads AS ({_LOADS} AND {self.on('batches')} GROUP BY 1, 2) SELECT count(DISTINCT a.agent_id) AS "
            f"value FROM loads a JOIN loads b ON {_TAKE_TURNS}"
        )
        cloned = self.today.cloned
        self.put("hosts.cloned", "Agents that two machines pose as", "hosts", cloned, show_count(cloned), clones)
        spots = len(set(self.today.blind_spots))
        sql = (
            "SELECT count(DISTINCT spot) AS value FROM "
            f"(SELECT unnest(blind_spots) AS spot FROM batches WHERE outcome = 'landed' AND {self.on('batches')})"
        )
        self.put("blind_spots.count", "Kinds of activity out of sight", "kinds", spots, show_count(spots), sql)

    def attention(self) -> None:
        rows = self.today.findings
        states = ", ".join(f"'{state}'" for state in OPEN)
        last = rows.filter(pl.col("event_day") == self.today.span.last)
        live = last.filter(pl.col("state").is_in(OPEN))
        for name, label, frame, where in (
            ("opened", "New findings", rows.filter(pl.col("state") == "opened"), "state = 'opened'"),
            ("closed", "Findings closed", rows.filter(pl.col("state") == "closed"), "state = 'closed'"),
            ("suppressed", "Findings suppressed", last.filter(pl.col("state") == "suppressed"), "state = 'suppressed'"),
            ("open", "Open findings", live, f"state IN ({states})"),
            *(
                (severity, f"Open findings: {severity}", live.filter(pl.col("severity") == severity),
                 f"severity = '{severity}' AND state IN ({states})")
                for severity in SEVERITIES
            ),
            ("urgent", "Open findings, critical or high", live.filter(pl.col("severity").is_in(URGENT)),
             f"severity IN ('critical', 'high') AND state IN ({states})"),
            ("urgent_new", "New findings, critical or high",
             rows.filter(pl.col("severity").is_in(URGENT), pl.col("state") == "opened"),
             "severity IN ('critical', 'high') AND state = 'opened'"),
        ):  # fmt: skip
            at_end = name not in {"opened", "closed", "urgent_new"}
            self.count(
                f"findings.{name}", label, "findings", frame.height, "findings", "count(*)", where, at_end=at_end
            )
        touched, new = self.today.touched, self.today.new_behaviour
        self.count("sensitive.events", "Touches of sensitive files", "events", touched["events"].sum(), "sensitive",
                   "sum(events)")  # fmt: skip
        self.count("behaviour.new", "Programs new to a sensitive file", "rows", new.height, "new_behaviour", "count(*)")
        for name, label, pattern in _ACTS:
            matching = f"regexp_matches(act, '{pattern}')" if pattern else None
            number = self.today.acts.filter(pl.col("act").str.contains(pattern)).height
            self.count(f"acts.{name}", label, "acts", number, "acts", "count(*)", matching)
        self._trend()

    def _trend(self) -> None:
        before, day = self.today.days_before["events"], self.today.day
        by, least = "event_day", LEAST_DAYS
        if self.today.span.kind == "week":
            by, least = "date_trunc('week', event_day) AS week", LEAST_WEEKS
        of_days = (
            f"SELECT {by}, sum(events) AS events FROM activity WHERE event_day BETWEEN "
            f"DATE '{day - timedelta(days=MEDIAN_DAYS)}' AND DATE '{day - timedelta(days=1)}' GROUP BY 1"
        )
        known = len(before) >= least
        median = float(before.median()) if known else None  # type: ignore[arg-type] # not empty, and of numbers
        sql = f"SELECT CASE WHEN count(*) >= {least} THEN median(events) END AS value FROM ({of_days})"
        shown = show_count(None if median is None else round(median))
        self.put("events.median", "File events, median of four weeks", "events", median, shown, sql)
        total = self.made["events.total"]
        against = None
        if median and self.today.as_of is None:
            against = whole(100 * (float(total.value or 0) - median) / median)
        sql = (
            f"SELECT round(100.0 * (({total.sql}) - ({sql})) / nullif(({sql}), 0)) AS value"
            if against is not None
            else "SELECT NULL AS value"
        )
        self.put(
            "events.against_median", "Against the median of four weeks", "percent", against, show_change(against), sql
        )

    def matter(self, row: dict[str, Any], alias: str, entities: dict[str, Entity]) -> Matter:
        """Add the values of a matter; return it."""
        states = ", ".join(f"'{state}'" for state in OPEN)
        where = f"rule = '{row['rule']}' AND state IN ({states})"
        columns: tuple[tuple[Unit, str], ...] = (
            ("findings", "count(*)"), ("hosts", "count(DISTINCT agent_id)"), ("events", "sum(events)"),
        )  # fmt: skip
        for unit, expression in columns:
            sql = f"SELECT coalesce({expression}, 0) AS value FROM findings WHERE {self.on(at_end=True)} AND {where}"
            if unit == "events" and self.today.span.kind == "week":
                open_ones = f"SELECT finding_id FROM findings WHERE {self.on(at_end=True)} AND {where}"
                sql = (
                    f"SELECT coalesce({expression}, 0) AS value FROM findings WHERE {self.on()} "
                    f"AND state <> 'suppressed' AND finding_id IN ({open_ones})"
                )
            label = f"{unit.capitalize()} of the rule {row['rule']}"
            self.put(f"{alias}.{unit}", label, unit, row[unit], show_count(row[unit]), sql, compare=False)
        since = row["since"]
        sql = f"SELECT epoch(min(first_time)) AS value FROM findings WHERE {self.on()} AND state <> 'suppressed'"
        sql += f" AND finding_id IN (SELECT finding_id FROM findings WHERE {self.on(at_end=True)} AND {where})"
        # What is told of a week, or was last seen on a day before, needs its day beside the hour.
        shown = show_moment(since, with_day=self.today.span.kind == "week" or row["state"] == "quiet")
        label = f"First seen by the rule {row['rule']}"
        self.put(f"{alias}.since", label, "moment", since.timestamp(), shown, sql, compare=False)
        return tell(row, alias, entities, "today" if self.today.span.kind == "day" else "at the end of the week")

    def rank(self, kind: Literal["process", "user"], frame: pl.DataFrame, entities: dict[str, Entity]) -> list[str]:
        """Add each name of a ranking as an entity with its values; return the aliases in order."""
        aliases: list[str] = []
        name = _NAMES[kind]
        for place, row in enumerate(frame.iter_rows(named=True)):
            alias = f"{kind}_{place + 1}"
            entities[f"entity.{alias}"] = Entity(f"entity.{alias}", kind, row["name"])
            ranked = (
                f'SELECT {name} AS name, sum("count") AS events, count(DISTINCT agent_id) AS hosts FROM events '
                f"WHERE {self.on()} GROUP BY 1 ORDER BY events DESC, name LIMIT 1 OFFSET {place}"
            )
            units: tuple[Unit, ...] = ("events", "hosts")
            for column in units:
                sql = f"SELECT {column} AS value FROM ({ranked})"
                label = f"{column.capitalize()} of the {kind} in place {place + 1}"
                self.put(f"{alias}.{column}", label, column, row[column], show_count(row[column]), sql, compare=False)
            aliases.append(alias)
        return aliases

    def on(self, table: str = "completeness", *, at_end: bool = False) -> str:
        """Return the condition for the period; `at_end`: for its last day only."""
        partition = {"batches": "received_day", "quarantine": "received_day", "acts": "act_day"}.get(table, "event_day")
        span = self.today.span
        if span.kind == "day" or at_end:
            return f"{partition} = DATE '{span.last.isoformat()}'"
        return f"{partition} BETWEEN DATE '{span.start.isoformat()}' AND DATE '{span.last.isoformat()}'"

    def count(  # noqa: PLR0917 - a table's columns, read in rows above
        self,
        name: str,
        label: str,
        unit: Unit,
        value: Any,
        table: str,
        expression: str,
        where: str | None = None,
        *,
        at_end: bool = False,
    ) -> None:
        also = f" AND {where}" if where else ""
        sql = f"SELECT coalesce({expression}, 0) AS value FROM {table} WHERE {self.on(table, at_end=at_end)}{also}"
        self.put(name, label, unit, int(value), show_count(int(value)), sql)

    def put(  # noqa: PLR0917 - the same
        self,
        name: str,
        label: str,
        unit: Unit,
        value: float | None,
        display: str,
        sql: str,
        *,
        compare: bool = True,
    ) -> None:
        """Keep a value; `compare=False` where a place in a ranking means another name than the day before."""
        previous = self.before.get(name) if compare else None
        self.made[name] = Value(name, label, value, unit, previous, display, sql)


def _status(values: dict[str, Value], *, has_previous: bool, over: bool) -> Status:
    if values["accounting.unaccounted"].value or values["findings.urgent_new"].value:
        return "worse"
    if not has_previous:
        return "first"
    watched = [values["accounting.lost"], values["hours.unknown"]]
    changes = [float(value.value or 0) - float(value.previous or 0) for value in watched]
    if any(change > 0 for change in changes):
        return "worse"
    urgent = values["findings.urgent"]
    changes.append(float(urgent.value or 0) - float(urgent.previous or 0))
    return "better" if over and any(change < 0 for change in changes) else "stable"


def _decisions(values: dict[str, Value], told: list[Matter]) -> list[str]:
    """What somebody must decide, in our words; what a matter advises comes first."""
    said = [matter.advice for matter in told if matter.severity in URGENT or matter.state != "quiet"]
    if values["accounting.unaccounted"].value:
        said.append("Have kaimon's operators explain the unaccounted events before you rely on this page.")
    if values["hours.unknown"].value and not any(matter.rule == "agent_silent" for matter in told):
        said.append("Find out why hosts fell silent; a stopped agent can be an accident or an attack.")
    if values["accounting.lost"].value:
        said.append("Decide whether the hosts that lose events may use more memory for the agent.")
    if values["hosts.cloned"].value:
        said.append("Find out who copied an agent's credential; enroll each machine by itself and revoke the copy.")
    return said


def _must_mention(values: dict[str, Value]) -> list[str]:
    always = [name for name in ("events.total", "coverage.share") if values[name].value is not None]
    return [*always, *(name for name in _MENTION_IF_ANY if name in values and values[name].value)]


def _hours(today: Day) -> list[Hour]:
    events = today.activity.group_by(pl.col("hour").dt.hour()).agg(events=pl.col("events").sum())
    states = today.completeness.group_by(pl.col("hour").dt.hour()).agg(
        (pl.col("state") == state).sum().cast(pl.Int64).alias(state)
        for state in ("complete", "partial", "unknown", "not_monitored")
    )
    rows = states.join(events, on="hour", how="full", coalesce=True).sort("hour").with_columns(pl.all().fill_null(0))
    return [Hour(**row) for row in rows.iter_rows(named=True)]
