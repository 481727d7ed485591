"""The tables: every column of every table, defined here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from lake.columns import CAUSES, Column, table_schema, wire_schema

OPERATIONS: Final = (
    "open", "create", "write", "rename", "delete", "chmod", "link", "symlink", "truncate", "chown", "mmap_write",
)  # fmt: skip
ACCESSES: Final = ("read", "write", "read_write")
PATH_STATUSES: Final = ("resolved", "requested", "truncated", "namespace", "unresolved")
FILE_TYPES: Final = ("regular", "directory", "symlink", "device", "socket", "fifo", "unknown")

EVENTS: Final = (
    Column("time", "timestamp", False, "When the kernel saw it", "µs", "time", "event"),
    Column("monotonic_ns", "int64", False, "The same on the boot-time clock, which never jumps", "ns", "", "event"),
    Column("operation", "string", False, "What was done", "", "activity_id", "event", OPERATIONS),
    Column("access", "string", True, "For an open: what the caller may do", "", "", "event", ACCESSES),
    Column("path", "string", False, "The file; odd bytes escaped, lossless", "", "file.path", "event"),
    Column("target_path", "string", True, "Where a rename, link or symlink leads", "", "file_result.path", "event"),
    Column("path_status", "string", False, "How far the path can be trusted", "", "", "event", PATH_STATUSES),
    Column("file_type", "string", False, "What kind of file", "", "file.type_id", "event", FILE_TYPES),
    Column("mode", "int32", True, "Permission bits after the operation", "bits", "", "event"),
    Column("mode_before", "int32", True, "Permission bits before it", "bits", "", "event"),
    Column("flags", "int32", True, "Open flags as the kernel saw them", "bits", "", "event"),
    Column("result", "int32", True, "0, or the errno; null where the hook sees attempts", "", "status_code", "event"),
    Column("count", "int64", False, "How many occurrences the row stands for", "", "count", "event"),
    Column("last_time", "timestamp", True, "When the last of them was", "µs", "end_time", "event"),
    Column("uid", "int64", False, "Real user id", "", "actor.user.uid", "event"),
    Column("euid", "int64", False, "Effective user id", "", "actor.process.euid", "event"),
    Column("gid", "int64", False, "Real group id", "", "actor.process.egid", "event"),
    Column("login_uid", "int64", True, "Who logged in, through sudo; null if nobody did", "", "actor.process.auid",
           "event"),
    Column("user", "string", True, "Name of the real user id on the host", "", "actor.user.name", "event"),
    Column("pid", "int64", False, "Process id on the host", "", "actor.process.pid", "event"),
    Column("ppid", "int64", True, "Its parent's", "", "actor.process.parent_process.pid", "event"),
    Column("process", "string", False, "Command name (comm)", "", "actor.process.name", "event"),
    Column("exe", "string", True, "Path of the program", "", "actor.process.file.path", "event"),
    Column("process_start", "timestamp", True, "When the process started", "µs", "actor.process.created_time", "event"),
    Column("parent_process", "string", True, "The parent's command name", "", "actor.process.parent_process.name",
           "event"),
    Column("container_id", "string", True, "Container, if any", "", "actor.process.container.uid", "event"),
    Column("mount_ns", "int64", True, "Mount namespace, which a path is relative to", "", "", "event"),
    Column("inode", "int64", True, "Inode number, in two's complement", "", "file.uid", "event"),
    Column("dev", "int64", True, "Device of the file system", "", "", "event"),
    Column("cpu", "int32", False, "CPU that numbered the row", "", "", "event"),
    Column("seq", "int64", False, "The row's number on that CPU, from 0", "", "metadata.sequence", "event"),
    Column("agent_id", "string", False, "The agent that saw it", "", "metadata.logger_id", "batch"),
    Column("hostname", "string", False, "Its host, as fixed at enrollment", "", "device.hostname", "batch"),
    Column("boot_id", "string", False, "The host's boot", "", "device.boot_uid", "batch"),
    Column("load_id", "string", False, "One load of the eBPF programs", "", "", "batch"),
    Column("batch_seq", "int64", False, "The batch that brought it", "", "metadata.correlation_uid", "batch"),
    Column("received_at", "timestamp", False, "When ingest received it", "µs", "metadata.logged_time", "ingest"),
    Column("event_day", "date", False, "UTC date of `time`; the partition", "", "", "ingest"),
)  # fmt: skip

BATCHES: Final = (
    Column("agent_id", "string", False, "The agent that sent it"),
    Column("hostname", "string", False, "Its host, as fixed at enrollment"),
    Column("claimed_hostname", "string", False, "The host's name as the batch says it; a change is flagged"),
    Column("boot_id", "string", False, "The host's boot"),
    Column("load_id", "string", False, "One load of the eBPF programs"),
    Column("batch_seq", "int64", False, "The batch's number in its load, from 1"),
    Column("digest", "string", False, "SHA-256 of the body as sent", "hex"),
    Column("previous_digest", "string", True, "The same of the batch before, by the agent's word", "hex"),
    Column("agent_version", "string", False, "Version of the agent"),
    Column("capture_mode", "string", False, "How the agent captures"),
    Column("blind_spots", "strings", False, "What this mode cannot see, by the agent's word"),
    Column("os", "string", True, "Operating system"),
    Column("kernel", "string", True, "Kernel release"),
    Column("arch", "string", True, "Machine architecture"),
    Column("cloud", "string", True, "Cloud provider, if known"),
    Column("counters", "counters", False, "Per CPU, cumulative since load: seen, filtered, next_seq, pending, lost"),
    Column("final", "bool", False, "The agent's goodbye: a clean stop"),
    Column("sent_at", "timestamp", False, "When the agent cut it", "µs"),
    Column("received_at", "timestamp", False, "When ingest received it", "µs"),
    Column("received_day", "date", False, "UTC date of that; the partition"),
    Column("rows", "int64", False, "Event rows in the body that were well formed"),
    Column("occurrences", "int64", False, "Sum of their counts"),
    Column("rejected", "int64", False, "Lines that were not"),
    Column("quarantined", "int64", False, "Well-formed rows that landing put into quarantine"),
    Column("first_time", "timestamp", True, "Earliest event in it", "µs"),
    Column("last_time", "timestamp", True, "Latest event in it", "µs"),
    Column("outcome", "string", False, "What became of it", domain=("landed", "duplicate", "conflict", "replayed")),
    Column("node", "string", False, "The ingest process that staged it"),
    Column("segment_seq", "int64", False, "Its segment's number at that node"),
    Column("segment_digest", "string", False, "SHA-256 of that segment", "hex"),
    Column("landed_at", "timestamp", False, "When it landed", "µs"),
)  # fmt: skip

QUARANTINE: Final = (
    Column("received_day", "date", False, "UTC date of arrival; the partition"),
    Column("received_at", "timestamp", False, "When ingest received it", "µs"),
    Column("agent_id", "string", False, "The agent that sent it"),
    Column("load_id", "string", False, "Its load"),
    Column("batch_seq", "int64", False, "Its batch"),
    Column("line", "int64", False, "Its line in the body; the header is line 1"),
    Column("code", "string", False, "Why, in a word that programs may branch on; `replayed`: a mark that the line of "
           "this place has left quarantine"),
    Column("detail", "string", False, "Why, for people"),
    Column("raw", "string", False, "The line as it came; odd bytes escaped, lossless"),
    Column("node", "string", False, "The ingest process that staged it"),
    Column("segment_seq", "int64", False, "Its segment's number at that node"),
)  # fmt: skip

HOSTS: Final = (
    Column("agent_id", "string", False, "The agent"),
    Column("hostname", "string", False, "Its host, as fixed at enrollment"),
    Column("claimed_hostname", "string", False, "The host's name as its newest batch says it"),
    Column("os", "string", True, "Operating system"),
    Column("kernel", "string", True, "Kernel release"),
    Column("arch", "string", True, "Machine architecture"),
    Column("cloud", "string", True, "Cloud provider, if known"),
    Column("agent_version", "string", False, "Version of the agent"),
    Column("capture_mode", "string", False, "How the agent captures"),
    Column("blind_spots", "strings", False, "What this mode cannot see"),
    Column("boot_id", "string", False, "The host's newest boot"),
    Column("load_id", "string", False, "The newest load"),
    Column("first_seen", "timestamp", False, "When its first batch arrived", "µs"),
    Column("last_seen", "timestamp", False, "When its newest batch arrived", "µs"),
)  # fmt: skip

COMPLETENESS: Final = (
    Column("event_day", "date", False, "UTC date of `hour`; the partition"),
    Column("hour", "timestamp", False, "Start of the hour", "µs"),
    Column("agent_id", "string", False, "The agent"),
    Column("hostname", "string", False, "Its host"),
    Column("capture_mode", "string", True, "How it captured; null where nothing came"),
    Column("seen", "int64", False, "Events that the kernel's hooks saw"),
    Column("captured", "int64", False, "Occurrences that arrived"),
    Column("filtered", "int64", False, "Events that the filter left out"),
    Column("pending", "int64", False, "Change in occurrences held in open windows"),
    *(Column(f"lost_{cause}", "int64", False, f"Events known lost: {cause}") for cause in CAUSES),
    Column("unaccounted", "int64", False, "seen - captured - filtered - pending - lost; anything but 0 is a defect"),
    Column("covered_s", "float64", False, "Seconds of the hour that batches vouch for", "s"),
    Column("state", "string", False, "The verdict", domain=("complete", "partial", "unknown", "not_monitored")),
)  # fmt: skip

ACTIVITY: Final = (
    Column("event_day", "date", False, "UTC date of `hour`; the partition"),
    Column("hour", "timestamp", False, "Start of the hour", "µs"),
    Column("agent_id", "string", False, "The agent"),
    Column("hostname", "string", False, "Its host"),
    Column("operation", "string", False, "What was done", domain=OPERATIONS),
    Column("events", "int64", False, "Occurrences"),
    Column("rows", "int64", False, "Rows that stand for them"),
    Column("paths", "int64", False, "Different paths"),
    Column("denied", "int64", False, "Occurrences that the kernel refused (EACCES, EPERM)"),
)  # fmt: skip

_DAY: Final = Column("event_day", "date", False, "UTC date of the events; the partition")
_HOST: Final = (
    Column("agent_id", "string", False, "The agent"),
    Column("hostname", "string", False, "Its host, as the newest of the day's events have it"),
)
_PROGRAM: Final = (
    Column("process", "string", False, "Command name (comm), which a program may choose"),
    Column("exe", "string", True, "Path of the program, where the agent knows it"),
)
_DONE: Final = (
    Column("events", "int64", False, "Occurrences"),
    Column("denied", "int64", False, "Occurrences that the kernel refused (EACCES, EPERM)"),
)
_SPAN: Final = (
    Column("first_time", "timestamp", False, "The first of them", "µs"),
    Column("last_time", "timestamp", False, "When the last row of them begins", "µs"),
)

TOP_PATHS: Final = (
    _DAY,
    Column("rank", "int64", False, "From 1, by `events`, then by path; at most 1,000 a day"),
    Column("path", "string", False, "The file"),
    *_DONE,
    Column("rows", "int64", False, "Rows that stand for them"),
    Column("hosts", "int64", False, "Different agents"),
    Column("processes", "int64", False, "Different command names"),
    Column("users", "int64", False, "Different real user ids"),
)  # fmt: skip

PROCESSES: Final = (
    _DAY,
    *_HOST,
    *_PROGRAM,
    *_DONE,
    Column("rows", "int64", False, "Rows that stand for them"),
    Column("paths", "int64", False, "Different paths"),
    Column("users", "int64", False, "Different real user ids"),
    *_SPAN,
)  # fmt: skip

USERS: Final = (
    _DAY,
    *_HOST,
    Column("uid", "int64", False, "Real user id"),
    Column("login_uid", "int64", True, "Who logged in, through sudo; null if nobody did"),
    Column("user", "string", True, "Name of the real user id, as the newest event that has one says"),
    *_DONE,
    Column("rows", "int64", False, "Rows that stand for them"),
    Column("paths", "int64", False, "Different paths"),
    Column("processes", "int64", False, "Different command names"),
    *_SPAN,
)  # fmt: skip

SENSITIVE: Final = (
    _DAY,
    *_HOST,
    *_PROGRAM,
    Column("path", "string", False, "The sensitive file; where a rename, link or symlink led counts too"),
    Column("pattern", "string", False, "Which of the sensitive patterns it fits"),
    Column("user", "string", True, "Name of the real user id, of the first event"),
    *_DONE,
    *_SPAN,
)  # fmt: skip

FINDINGS: Final = (
    _DAY,
    Column("finding_id", "string", False, "Names rule, host, user and program; the same from day to day"),
    Column("rule", "string", False, "The rule's name"),
    Column("title", "string", False, "What it says, in our words"),
    Column("severity", "string", False, "How grave", domain=("low", "medium", "high", "critical")),
    Column("attack_id", "string", False, "MITRE ATT&CK technique"),
    Column("attack_version", "string", False, "Version of ATT&CK that the id is of"),
    Column("state", "string", False, "What became of it that day: seen for the first time, seen again, not seen but "
           "open, over, or not to be reported", domain=("opened", "ongoing", "quiet", "closed", "suppressed")),
    Column("opened_day", "date", False, "When it was first seen"),
    Column("suppression_id", "string", True, "The suppression that holds for all of it"),
    *_HOST,
    Column("uid", "int64", True, "Real user id; null for what is about a host"),
    Column("user", "string", True, "Name of it, of the first event"),
    Column("process", "string", True, "Command name (comm), which a program may choose"),
    Column("exe", "string", True, "Path of the program, where the agent knows it"),
    Column("path", "string", True, "The first file that it is about; where a rename or link led, if it did"),
    Column("paths", "int64", False, "Different such files of the day"),
    Column("events", "int64", False, "Occurrences of the day; host-hours for what is about a host"),
    Column("first_time", "timestamp", False, "The first of them, on the day when it was last seen", "µs"),
    Column("last_time", "timestamp", False, "When the last row of them begins, of the same day", "µs"),
)  # fmt: skip

SEALS: Final = (
    Column("event_day", "date", False, "The sealed day, UTC; the partition"),
    Column("seal", "string", False, "Names the day's files: it holds where each is `sealed-<seal>-<number>`"),
    Column("rows", "int64", False, "Rows of `events` that were sealed"),
    Column("events", "int64", False, "Occurrences that they stand for"),
    Column("files", "int64", False, "Files that hold them"),
    Column("bytes", "int64", False, "Their size", "bytes"),
    Column("checksum", "string", False, "SHA-256 over the rows in their order, however they are cut", "hex"),
    Column("sealed_at", "timestamp", False, "When", "µs"),
)  # fmt: skip

ACTS: Final = (
    Column("seq", "int64", False, "The record's number on the tenant's audit chain, from 1"),
    Column("at", "timestamp", False, "When it was done", "µs"),
    Column("act", "string", False, "What was done, `noun.verb`"),
    Column("actor", "string", False, "Who did it: `prs_…`, `agt_…`, or a part of kaimon"),
    Column("subject", "string", False, "The id of what it was done to"),
    Column("record", "string", False, "The whole record, canonical JSON: it names the digest of the one before"),
    Column("digest", "string", False, "SHA-256 of the record", "hex"),
    Column("act_day", "date", False, "UTC date of `at`"),
)  # fmt: skip

_PERIOD: Final = (
    Column("period_start", "date", False, "First day of the period; the partition"),
    Column("period", "string", False, "How long it is", domain=("day", "week")),
)  # fmt: skip

FACTS: Final = (
    *_PERIOD,
    Column("version", "string", False, "Version of the document's form and method"),
    Column("document", "string", False, "The facts, as canonical JSON"),
    Column("digest", "string", False, "SHA-256 of the document", "hex"),
    Column("made_at", "timestamp", False, "When it was computed", "µs"),
)  # fmt: skip

SUMMARIES: Final = (
    *_PERIOD,
    Column("revision", "int64", False, "From 1; a late change of a fact makes a new one"),
    Column("writer", "string", False, "Who worded it", domain=("template", "model")),
    Column("facts_digest", "string", False, "The facts that it rests on", "hex"),
    Column("headline", "string", False, "The first sentence, values put in"),
    Column("document", "string", False, "Sentences with their placeholders, what changed, how it was made (model, "
           "digests, verdict, tokens), as canonical JSON"),
    Column("made_at", "timestamp", False, "When it was written", "µs"),
)  # fmt: skip

DELIVERIES: Final = (
    *_PERIOD,
    Column("revision", "int64", False, "Of the summary that went out"),
    Column("channel", "string", False, "How it went", domain=("outbox",)),
    Column("recipient", "string", False, "To whom; for the outbox, the folder's name"),
    Column("reference", "string", False, "Where it lies, relative to the channel"),
    Column("digest", "string", False, "SHA-256 of what was delivered", "hex"),
    Column("delivered_at", "timestamp", False, "When", "µs"),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table's name, columns and partition; `statistics` are the columns whose min and max Delta's log may hold."""

    name: str
    columns: tuple[Column, ...]
    partition: str | None
    statistics: tuple[str, ...]
    purpose: str

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the table."""
        return table_schema(self.columns)


TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        Table("events", EVENTS, "event_day", ("time",), "What happened to files"),
        Table(
            "batches",
            BATCHES,
            "received_day",
            ("received_at", "batch_seq", "load_id"),
            "The ledger: one row a batch",
        ),
        Table("quarantine", QUARANTINE, "received_day", ("received_at",), "Lines that are not events, and why"),
        Table("hosts", HOSTS, None, ("last_seen",), "Every host that ever sent"),
        Table("completeness", COMPLETENESS, "event_day", ("hour",), "Host by hour: how much of it we know"),
        Table("activity", ACTIVITY, "event_day", ("hour",), "Hour by host by operation"),
        Table("top_paths", TOP_PATHS, "event_day", ("rank",), "The paths that most happened to"),
        Table("processes", PROCESSES, "event_day", ("last_time",), "What each program did on each host"),
        Table("users", USERS, "event_day", ("last_time",), "What each user did on each host"),
        Table("sensitive", SENSITIVE, "event_day", ("last_time",), "Who touched credentials and keys"),
        Table(
            "new_behaviour",
            SENSITIVE,
            "event_day",
            ("last_time",),
            "A program's first touch of a sensitive file on a host in 28 days; `sensitive` of these days tells",
        ),
        Table("findings", FINDINGS, "event_day", ("last_time",), "What the rules saw, and what became of it"),
        Table("seals", SEALS, "event_day", ("sealed_at",), "Which days are sealed, and what a replay must come to"),
        Table("acts", ACTS, None, ("seq", "at"), "What was done in kaimon itself: a copy of the tenant's audit chain"),
        Table("facts", FACTS, "period_start", ("made_at",), "What a summary rests on"),
        Table("summaries", SUMMARIES, "period_start", ("made_at",), "What a summary said, and who wrote it"),
        Table("deliveries", DELIVERIES, "period_start", ("delivered_at",), "To whom it went"),
    )
}

EVENT_LINE: Final = wire_schema(EVENTS)
"""What one event's line holds: the Arrow schema that ingest parses against."""
