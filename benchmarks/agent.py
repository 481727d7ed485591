"""What watching costs: the same work with and without the agent, beside an empty program, bpftrace and auditd.

Needs root, BTF, gcc and make, and build/kaimon-agent. Every watched run stands between two unwatched ones, whose
mean it is divided by; figures are medians over the rounds. The loop opens, writes and closes one file, as one
process that does nothing else; the compile is gcc over generated C files with real headers, two at a time. CPU is
the kernel's own account of the processes. "Total" adds to the work's CPU the watcher's own (the server's is not in
it). bpftrace runs agent_load/same_job.bt, which does less than the agent; auditd has a rule for the same calls.

Prints one JSON object; a figure that could not be had is null, and where the agent cannot run there is only a reason:

    kernel                          the running kernel
    rounds, loop_count              rounds; opened, written, closed so often in each
    baseline_loop_us                CPU of one turn of the unwatched loop, microseconds
    loop_kernel_ratio               the loop's kernel CPU, the agent with its defaults to none; at most 1.5 is wanted
    loop_kernel_spread              its lowest and highest round
    loop_total_ratio                the loop's and the agent's CPU, to the unwatched loop's; at most 2.0
    loop_kernel_ratio_no_collapse   the same two with every open and write a row of its own
    loop_total_ratio_no_collapse
    programs_us_per_turn            time inside the agent's programs a turn, by the kernel's clock, in runs of their own
    empty_kernel_ratio              as loop_kernel_ratio, with an empty program at the exit of system calls: the floor
    bpftrace_loop_kernel_ratio      as above, with bpftrace
    bpftrace_loop_total_ratio
    bpftrace_lost_share             share of its lines that bpftrace lost in the loop; a loss makes it cheaper
    auditd_loop_kernel_ratio        as above, with auditd (auditd's and kauditd's CPU in the total)
    auditd_loop_total_ratio
    auditd_lost                     records that the kernel says it lost
    bpftrace_reason, auditd_reason  why there are no figures, else null
    build_ratio                     wall time of the compile, with the agent to none; at most 1.05
    build_spread                    its lowest and highest round
    build_cpu_ratio                 CPU of the compile and the agent, to the unwatched compile's
    bpftrace_build_ratio            the same two with bpftrace
    bpftrace_build_cpu_ratio
    user_cpu_us_per_row             the agent's user CPU for each row delivered: files made, written, removed, once each
    kernel_cpu_us_per_row           its kernel CPU
    agent_lost_rows                 rows that the agent lost in all of this, by its own account
    start_to_first_event_s          from the agent's start to the first event that it delivered, on a busy machine
    first_event_spread_s            the lowest and highest of all starts
    rss_peak_mb                     the most memory that the agent ever had
    binary_mb                       size of the agent
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from agent_load import watchers
from agent_load.compare import Neighbours, Results
from agent_load.loads import Loads


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything in `folder` and return the object to print."""
    rounds, turns, units, files = (2, 60_000, 24, 10_000) if arguments.quick else (7, 300_000, 80, 50_000)
    rounds = arguments.rounds or rounds
    loads = Loads(folder, turns, units, files)
    with ExitStack() as stack:
        sink = watchers.Sink(folder / "sink")
        stack.callback(sink.stop)
        agent = watchers.Agent(sink, folder / "state")
        plain = watchers.Agent(sink, folder / "state", "--collapse-window", "0")
        others: dict[str, watchers.Process] = {
            "agent": agent,
            "plain": plain,
            "empty": watchers.Empty(folder / "empty.program"),
        }
        no_bpftrace, no_auditd = watchers.why_no_bpftrace(), watchers.why_no_auditd()
        if no_bpftrace is None:
            others["bpftrace"] = watchers.Bpftrace()
        for other in others.values():
            stack.callback(other.kill)
        neighbours = Neighbours()
        loops, builds, audited = (Results(neighbours) for _ in range(3))
        loops.alternate(loads.loop, others, rounds)
        inside = [neighbours.undisturbed(lambda: loads.in_programs(agent)) for _ in range(rounds)]
        rows = [neighbours.undisturbed(lambda: loads.each_once(agent)) for _ in range(rounds)]
        if not arguments.no_build:
            compiling = {name: others[name] for name in ("agent", "bpftrace") if name in others}
            builds.alternate(loads.compile, compiling, rounds)
        if no_auditd is None and not arguments.no_auditd:
            auditd = watchers.Auditd()
            stack.callback(watchers.audit_off)
            stack.callback(auditd.kill)
            watchers.audit_off()
            audited.alternate(loads.loop, {"auditd": auditd}, rounds)
    seen = [cost.rows + cost.lost for cost in loops.watched("bpftrace")]
    lost = [cost.lost for cost in loops.watched("bpftrace")]
    agents = [*loops.watched("agent"), *loops.watched("plain"), *builds.watched("agent"), *rows]
    first_events = agent.first_events + plain.first_events
    return {
        "kernel": os.uname().release,
        "rounds": rounds,
        "loop_count": loads.turns,
        "baseline_loop_us": round(loops.unwatched_cpu() / loads.turns * 1e6, 3),
        "loop_kernel_ratio": loops.ratio("agent", "system"),
        "loop_kernel_spread": loops.spread("agent", "system"),
        "loop_total_ratio": loops.ratio("agent", "total"),
        "loop_kernel_ratio_no_collapse": loops.ratio("plain", "system"),
        "loop_total_ratio_no_collapse": loops.ratio("plain", "total"),
        "programs_us_per_turn": round(statistics.median(inside), 3),
        "empty_kernel_ratio": loops.ratio("empty", "system"),
        "bpftrace_loop_kernel_ratio": loops.ratio("bpftrace", "system"),
        "bpftrace_loop_total_ratio": loops.ratio("bpftrace", "total"),
        "bpftrace_lost_share": round(sum(lost) / max(sum(seen), 1), 3) if seen else None,
        "bpftrace_reason": no_bpftrace,
        "auditd_loop_kernel_ratio": audited.ratio("auditd", "system"),
        "auditd_loop_total_ratio": audited.ratio("auditd", "total"),
        "auditd_lost": sum(cost.lost for cost in audited.watched("auditd")) if audited.runs["auditd"] else None,
        "auditd_reason": no_auditd,
        "build_ratio": builds.ratio("agent", "elapsed"),
        "build_spread": builds.spread("agent", "elapsed"),
        "build_cpu_ratio": builds.ratio("agent", "total"),
        "bpftrace_build_ratio": builds.ratio("bpftrace", "elapsed"),
        "bpftrace_build_cpu_ratio": builds.ratio("bpftrace", "total"),
        "user_cpu_us_per_row": round(statistics.median(cost.user / cost.rows for cost in rows) * 1e6, 2),
        "kernel_cpu_us_per_row": round(statistics.median(cost.system / cost.rows for cost in rows) * 1e6, 2),
        "agent_lost_rows": sum(cost.lost for cost in agents),
        "start_to_first_event_s": round(statistics.median(first_events), 3),
        "first_event_spread_s": [round(pick(first_events), 3) for pick in (min, max)],
        "rss_peak_mb": round(max(agent.peaks + plain.peaks) / 1e6, 1),
        "binary_mb": round(watchers.AGENT.stat().st_size / 1e6, 2),
    }


def main() -> None:
    """Run the benchmark and print its object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--rounds", type=int, help="how many rounds, instead of what --quick or its absence says")
    parser.add_argument("--no-build", action="store_true", help="leave the compile out")
    parser.add_argument("--no-auditd", action="store_true", help="leave auditd out")
    arguments = parser.parse_args()
    if reason := watchers.why_no_agent():
        print(json.dumps({"reason": reason}))
        return
    with tempfile.TemporaryDirectory(prefix="kaimon-bench-") as folder:
        answer = measure(Path(folder).resolve(), arguments)
    print(json.dumps(answer, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
