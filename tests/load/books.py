"""The agent's books as a server can keep them, batch by batch, for loads too long to keep every row of."""

from __future__ import annotations

import io
import itertools
from bisect import bisect
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

COLUMNS = pa.schema(
    {
        "cpu": pa.int64(),
        "seq": pa.int64(),
        "count": pa.int64(),
        "pid": pa.int64(),
        "operation": pa.string(),
        "path": pa.string(),
    }
)
READ = arrow_json.ParseOptions(explicit_schema=COLUMNS, unexpected_field_behavior="ignore")
LOADED = "/kaimon-load-"  # is in the path of every folder of the generator
CAUSES = ("ring", "scratch", "shed", "refused", "evicted")
GROW = ("seen", "filtered", "next_seq")


class Numbers:
    """Row numbers of one CPU, as disjoint runs [first, last]: each may come once."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []
        self.total = 0

    def add(self, numbers: np.ndarray) -> None:
        numbers = np.sort(numbers)
        breaks = np.flatnonzero(np.diff(numbers) != 1)
        assert not len(numbers) or np.all(np.diff(numbers) > 0), "a row number twice in one batch"
        firsts, lasts = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            self._insert(first, last)
        self.total += len(numbers)

    def _insert(self, first: int, last: int) -> None:
        at = bisect(self.runs, (first, last))
        before = self.runs[at - 1] if at else None
        after = self.runs[at] if at < len(self.runs) else None
        assert before is None or before[1] < first, f"row {first} was told before"
        assert after is None or last < after[0], f"row {after[0]} was told before"
        start, stop = at, at
        if before is not None and before[1] + 1 == first:
            first, start = before[0], at - 1
        if after is not None and last + 1 == after[0]:
            last, stop = after[1], at + 1
        self.runs[start:stop] = [(first, last)]

    @property
    def highest(self) -> int:
        return self.runs[-1][1] if self.runs else -1


class Books:
    """One load of the agent: every batch is checked as it comes."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.load_id = header["load_id"]
        self.batches = 0
        self.final = False
        self.numbers: dict[int, Numbers] = defaultdict(Numbers)
        self.counts: dict[int, int] = defaultdict(int)
        # Occurrences by process, folder and operation: within an hour the numbers of processes come round again.
        self.by_process: Counter[tuple[int, str, str]] = Counter()
        self.cpus: dict[int, dict[str, Any]] = {}
        self.digest: str | None = None

    def add(self, header: dict[str, Any], lines: bytes, digest: str) -> None:
        """Take the next batch and hold both equations for every CPU."""
        self.batches += 1
        assert header["batch_seq"] == self.batches, "a batch is missing"
        assert header["previous_digest"] == self.digest
        assert not self.final, "a batch after the last"
        self.digest, self.final = digest, header["final"]
        if lines:
            self._take(lines)
        for counters in header["cpus"]:
            self._check(counters)
        assert set(self.numbers) <= set(self.cpus)

    def _take(self, lines: bytes) -> None:
        table = arrow_json.read_json(
            io.BytesIO(lines), arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1), READ
        )
        assert table.num_rows == lines.count(b"\n")
        for cpu in pc.unique(table["cpu"]).to_pylist():
            mine = table.filter(pc.equal(table["cpu"], cpu))
            self.numbers[cpu].add(mine["seq"].to_numpy())
            self.counts[cpu] += pc.sum(mine["count"]).as_py()
        table = table.filter(pc.match_substring(table["path"], LOADED))
        folders = pc.replace_substring_regex(table["path"], "/[^/]*$", "")
        table = table.append_column("folder", folders)
        grouped = table.group_by(["pid", "folder", "operation"]).aggregate([("count", "sum")])
        for row in grouped.to_pylist():
            self.by_process[row["pid"], row["folder"], row["operation"]] += row["count_sum"]

    def _check(self, now: dict[str, Any]) -> None:
        cpu, numbers = now["cpu"], self.numbers[now["cpu"]]
        rows, events = sum(now["lost_rows"].values()), sum(now["lost_events"].values())
        assert set(now["lost_rows"]) == set(now["lost_events"]) == set(CAUSES)
        assert numbers.total + rows == now["next_seq"], (self.batches, now, numbers.total)
        assert numbers.highest < now["next_seq"]
        assert self.counts[cpu] + events + now["filtered"] + now["pending"] == now["seen"], (self.batches, now)
        before = self.cpus.get(cpu)
        if before is not None:
            assert all(now[key] >= before[key] for key in GROW)
            for kind, cause in itertools.product(("lost_rows", "lost_events"), CAUSES):
                assert now[kind][cause] >= before[kind][cause]
        self.cpus[cpu] = now

    def lost(self, kind: str = "lost_events") -> dict[str, int]:
        return {cause: sum(cpu[kind][cause] for cpu in self.cpus.values()) for cause in CAUSES}

    def pending(self) -> int:
        return sum(cpu["pending"] for cpu in self.cpus.values())

    def told(self, pid: int, folder: str, operation: str) -> int:
        """Occurrences of a process in a folder of the generator's that were delivered."""
        return self.by_process[pid, folder, operation]
