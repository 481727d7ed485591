"""The generated life of companies: hosts that serve, store and are looked after, and what befalls some of them.

What comes out is staged as ingest would stage it. Everything follows from a seed, but for the numbers of agents' loads.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from kaimon.base.clock import to_micros
from lake.columns import CAUSES
from lake.schema import EVENT_LINE
from lake.segments import BatchRecord, encode_segment, rows_of, segment_key
from lake.stores import Store, open_store
from tenancy.database import Database
from tenancy.hints import mark_staged

EVERY = timedelta(seconds=75)
"""How often an agent sends: an hour that no batch vouches for is unknown."""
BUSY = (2, 1, 1, 6, 1, 2, 4, 8, 14, 18, 18, 16, 12, 15, 18, 17, 15, 12, 8, 6, 5, 4, 3, 2)
"""How much of a day's work falls into each UTC hour."""

Event = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """What a program does again and again: `paths` with `{n}` for one of `of` numbers; `weight` against the others."""

    process: str
    exe: str
    user: str
    uid: int
    operation: str
    paths: tuple[str, ...]
    weight: int
    of: int = 40
    access: str | None = None
    parent: str = "systemd"


def _reads(process: str, exe: str, user: str, uid: int, weight: int, *paths: str, of: int = 40) -> Program:
    return Program(process, exe, user, uid, "open", paths, weight, of, "read")


def _writes(process: str, exe: str, user: str, uid: int, weight: int, *paths: str, of: int = 40) -> Program:
    return Program(process, exe, user, uid, "write", paths, weight, of, "write")


_COMMON = (
    _reads("sshd", "/usr/sbin/sshd", "root", 0, 2, "/etc/shadow", "/etc/ssh/ssh_host_ed25519_key"),
    _reads("cron", "/usr/sbin/cron", "root", 0, 4, "/etc/cron.d/sysstat", "/etc/crontab"),
    _writes("rsyslogd", "/usr/sbin/rsyslogd", "syslog", 104, 20, "/var/log/syslog", "/var/log/auth.log"),
    _reads("bash", "/usr/bin/bash", "maria", 1001, 5, "/home/maria/.bashrc", "/home/maria/notes/plan-{n}.md", of=9),
)
ROLES: dict[str, tuple[Program, ...]] = {
    "web": (
        *_COMMON,
        _writes("nginx", "/usr/sbin/nginx", "www-data", 33, 40, "/var/log/nginx/access.log"),
        _reads("nginx", "/usr/sbin/nginx", "www-data", 33, 40, "/srv/www/assets/page-{n}.html", of=300),
        Program("deploy", "/usr/bin/rsync", "deploy", 1100, "rename", ("/srv/www/assets/page-{n}.html",), 6, 300),
    ),
    "db": (
        *_COMMON,
        _writes("postgres", "/usr/lib/postgresql/15/bin/postgres", "postgres", 110, 90,
                "/var/lib/postgresql/15/main/base/16384/{n}", "/var/lib/postgresql/15/main/pg_wal/0000000{n}", of=200),
        _reads("restic", "/usr/bin/restic", "backup", 34, 15, "/var/lib/postgresql/15/main/base/16384/{n}", of=200),
    ),
    "files": (
        *_COMMON,
        _reads("smbd", "/usr/sbin/smbd", "svc-share", 1200, 60, "/srv/share/finance/2026/invoice-{n}.pdf", of=900),
        _writes("smbd", "/usr/sbin/smbd", "svc-share", 1200, 30, "/srv/share/projects/draft-{n}.docx", of=400),
        _reads("restic", "/usr/bin/restic", "backup", 34, 10, "/srv/share/finance/2026/invoice-{n}.pdf", of=900),
    ),
    "build": (
        *_COMMON,
        _writes("cc1", "/usr/libexec/gcc/cc1", "ci", 1300, 70, "/srv/ci/tree/obj/unit-{n}.o", of=500),
        _reads("git", "/usr/bin/git", "ci", 1300, 30, "/srv/ci/tree/src/unit-{n}.c", of=500),
        Program("make", "/usr/bin/make", "ci", 1300, "delete", ("/tmp/ci/{n}.tmp",), 15, 200),
    ),
}  # fmt: skip


@dataclass
class Host:
    """One host with its agent; `role` is what it does, `mode` how its agent captures."""

    name: str
    role: str
    mode: str = "fentry"
    kernel: str = "6.1.0-37-amd64"
    blind_spots: tuple[str, ...] = ("exec_opens", "kernel_writes", "memfd_writes")
    killed_at: datetime | None = None
    agent_id: str = ""
    load_id: str = ""
    batch_seq: int = 0
    seen: int = 0
    filtered: int = 0
    next_seq: int = 0
    lost: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))


@dataclass
class Company:
    """A tenant, its hosts, and what befalls them: from an hour's start, the events of that hour by host."""

    tenant: str
    name: str
    hosts: list[Host]
    befalls: Callable[[datetime, Host], Iterator[Event]] = lambda _hour, _host: iter(())
    events_a_day: int = 1500


def quiet() -> Company:
    """Nothing happens but work."""
    hosts = [Host("web-1", "web"), Host("web-2", "web"), Host("db-1", "db", "kprobe", "5.15.0-139-generic")]
    return Company("meadow", "Meadow Foods", hosts)


def attacked(wednesday: date) -> Company:
    """In the night to Wednesday one account encrypts the share of one host, deletes the backups, and empties a log."""
    start = datetime.combine(wednesday, time(2), UTC)

    def befalls(hour: datetime, host: Host) -> Iterator[Event]:
        if hour != start or host.name != "files-1":
            return
        by = {"process": "python3", "exe": "/usr/bin/python3.11", "user": "svc-share", "uid": 1200, "euid": 1200,
              "pid": 31337, "ppid": 31000, "parent_process": "smbd"}  # fmt: skip
        at = hour + timedelta(minutes=41)
        yield by | _event(at, "create", "/dev/shm/.x/lock.py")
        for number in range(900):
            at += timedelta(milliseconds=70)
            path = f"/srv/share/finance/2026/invoice-{number}.pdf"
            yield by | _event(at, "write", path) | {"access": "write"}
            yield by | _event(at, "rename", path) | {"target_path": f"{path}.locked"}
        for number in range(700):
            at += timedelta(milliseconds=40)
            yield by | _event(at, "delete", f"/srv/backup/share/{number // 10:04}.pack{number % 10}")
        yield by | _event(at, "create", "/srv/share/README_RESTORE.txt")
        root = {"process": "bash", "exe": "/usr/bin/bash", "user": "root", "uid": 0, "euid": 0, "pid": 31400}
        yield by | root | _event(at + timedelta(seconds=20), "truncate", "/var/log/auth.log")

    hosts = [Host("files-1", "files"), Host("files-2", "files"), Host("web-1", "web"), Host("db-1", "db")]
    return Company("harbour", "Harbour Logistics", hosts, befalls)


def silenced(killed_at: datetime) -> Company:
    """One host's agent is killed and does not come back."""
    hosts = [Host("build-1", "build"), Host("build-2", "build"), Host("app-1", "web"),
             Host("app-2", "web", killed_at=killed_at), Host("db-1", "db")]  # fmt: skip
    return Company("foundry", "Foundry Software", hosts)


def _event(at: datetime, operation: str, path: str) -> Event:
    return {"time": to_micros(at), "operation": operation, "path": path}


class Living:
    """Lets a company live day after day; what its agents have counted is kept between the days."""

    def __init__(self, company: Company, seed: int = 1) -> None:
        self.company = company
        self.random = random.Random(f"{company.tenant} {seed}")
        self.segment = 0
        for number, host in enumerate(company.hosts):
            host.agent_id = (
                host.agent_id or f"agt_{hashlib.sha256(f'{company.tenant} {number}'.encode()).hexdigest()[:16]}"
            )
            host.load_id = f"00000000-0000-4000-8000-{self.random.getrandbits(48):012x}"

    def live(self, db: Database, day: date, until: datetime | None = None) -> int:
        """Stage a day's batches of all hosts, a segment an hour, and return how many events they hold.

        Args:
            until: where the day ends if it is still going on.
        """
        store, events = open_store("staging"), 0
        for number in range(24):
            hour = datetime.combine(day, time(number), UTC)
            parts = []
            for host in self.company.hosts:
                parts += list(self._hour(host, hour, until))
            if not parts:
                break
            events += sum(record.occurrences for record, _, _ in parts)
            self._stage(db, store, parts)
        return events

    def _stage(self, db: Database, store: Store, parts: list[Any]) -> None:
        self.segment += 1
        tenant = self.company.tenant
        store.put_new(segment_key(tenant, "life", self.segment), encode_segment("life", self.segment, tenant, parts))
        mark_staged(db, [(tenant, "life", self.segment)])

    def _hour(self, host: Host, hour: datetime, until: datetime | None) -> Iterator[Any]:
        end = min(hour + timedelta(hours=1), until or datetime.max.replace(tzinfo=UTC))
        rows = sorted([*self._work(host, hour), *self.company.befalls(hour, host)], key=lambda row: int(row["time"]))
        cuts: list[tuple[datetime, int, int]] = []
        at, taken = hour, 0
        while at < end and (host.killed_at is None or at + EVERY < host.killed_at):
            at += EVERY
            first, limit = taken, to_micros(at)
            while taken < len(rows) and rows[taken]["time"] < limit:
                taken += 1
            cuts.append((at, first, taken))
        fixed = {"path_status": "resolved", "file_type": "regular", "result": 0, "gid": 0, "cpu": 0, "count": 1}
        lines = [
            fixed | row | {"seq": host.next_seq + place, "monotonic_ns": row["time"] * 1000}
            for place, row in enumerate(rows[:taken])
        ]
        numbers = [2 + place - first for _, first, past in cuts for place in range(first, past)]
        table = rows_of(pa.Table.from_pylist(lines, schema=EVENT_LINE), pa.array(numbers, pa.int32()))
        for at, first, past in cuts:
            yield self._record(host, at, lines[first:past]), table.slice(first, past - first), []

    def _work(self, host: Host, hour: datetime) -> Iterator[Event]:
        weekend = 0.4 if hour.weekday() >= 5 else 1.0
        wanted = self.company.events_a_day * BUSY[hour.hour] / sum(BUSY) * weekend * self.random.uniform(0.9, 1.1)
        programs = ROLES[host.role]
        for program in self.random.choices(programs, [one.weight for one in programs], k=round(wanted)):
            path = self.random.choice(program.paths).replace("{n}", str(self.random.randrange(program.of)))
            yield {
                "time": to_micros(hour) + self.random.randrange(3_600_000_000),
                "operation": program.operation,
                "access": program.access,
                "path": path,
                "target_path": f"{path}.new" if program.operation == "rename" else None,
                "count": self.random.choice((1, 1, 1, 2, 5)) if program.operation in {"open", "write"} else 1,
                "uid": program.uid,
                "euid": program.uid,
                "user": program.user,
                "pid": 400 + programs.index(program),
                "process": program.process,
                "exe": program.exe,
                "parent_process": program.parent,
            }

    @staticmethod
    def _record(host: Host, at: datetime, lines: list[Event]) -> BatchRecord:
        host.batch_seq += 1
        many = sum(line["count"] for line in lines)
        host.next_seq += len(lines)
        host.filtered += 3 * len(lines)
        host.seen += many + 3 * len(lines)
        sent, received = to_micros(at), to_micros(at) + 80_000
        books = {"cpu": 0, "seen": host.seen, "filtered": host.filtered, "next_seq": host.next_seq, "pending": 0}
        return BatchRecord(
            agent_id=host.agent_id,
            hostname=host.name,
            claimed_hostname=host.name,
            boot_id=host.load_id,
            load_id=host.load_id,
            batch_seq=host.batch_seq,
            digest=hashlib.sha256(f"{host.load_id} {host.batch_seq}".encode()).hexdigest(),
            previous_digest=None,
            agent_version="0.1.0",
            capture_mode=host.mode,
            blind_spots=list(host.blind_spots),
            host={"os": "Debian GNU/Linux 12", "kernel": host.kernel, "arch": "x86_64", "cloud": None},
            counters=[books | {"lost_rows": host.lost, "lost_events": host.lost}],
            final=False,
            sent_at=sent,
            received_at=received,
            rows=len(lines),
            occurrences=many,
            rejected=0,
            first_time=lines[0]["time"] if lines else None,
            last_time=lines[-1]["time"] if lines else None,
        )
