"""Makes docs/capture.md out of the behaviour suite's reports in build/, and reads it back.

    .venv/bin/python tests/vm/table.py     after `script/test --vm`, or the tests of the columns that changed

Columns whose report is not in build/ are kept as they are committed.
"""

from __future__ import annotations

import json
import sys

import kernels
from behaviour import Report

PAGE = kernels.ROOT / "docs" / "capture.md"
Column = dict[tuple[str, str], str]
ORDER = [
    f"{version} {arch} {mode}"
    for version, arch in (
        ("6.1", "x86_64"),
        ("6.12", "x86_64"),
        ("6.1", "arm64"),
        ("6.12", "arm64"),
        ("6.18", "x86_64"),
    )
    for mode in ("fentry", "kprobe", "sys_exit")
]
HEAD = """# What is captured

Made by `tests/vm/table.py` from what the behaviour suite (`agent/suite`) saw; a test compares. Each operation is done
once in each way, on a name of its own, under the real agent with collapsing off, and looked for in what the agent
delivered. {kernels}
Linux 5.14 itself is untested: Debian serves no such kernel.

| word | meaning |
|---|---|
| once | one row, with the true path |
| namespace | one row, with the path as the other mount namespace has it, and saying so |
| as asked | one row, with the path that the caller gave (`requested`), which leads to the file |
| partial | one row, without the leading components of the path (`truncated`) |
| nameless | one row, of a file that has no name (`unresolved`), found by its inode |
| as open | one row, once, but `open` where the file was made (`io_uring_results`) |
| twice | more than one row, or a count above one; the last column has the blind spot that says so |
| missed | no row; the last column has the blind spot that each such batch names |
| — | cannot be done there |

Of `denied` operations the row holds the error. `deep_100` is a file 100 folders down, `long_4000` one with a path of
4,000 bytes. `overlay_lower` changes a file of the lower folder, so that it is copied up; no part of that is told apart
from the change. On arm64, `plain` is the *at call without a folder.

"""


def outcome(cell: Report) -> str:
    """A cell in one of the words of the page."""
    found: str = cell["found"]
    if found == "impossible":
        return "—"
    if found != "once":
        return found
    if cell.get("seen"):
        return f"as {cell['seen']}"
    if cell.get("path_status") == "namespace":
        return "namespace"
    return {"right": "once", "as_asked": "as asked", "partial": "partial", "unknown": "nameless"}[cell["path"]]


def column_of(report: Report) -> str:
    """The head of a report's column: kernel series, architecture, mode."""
    series = ".".join(report["kernel"].split(".")[:2])
    arch = {"amd64": "x86_64"}.get(report["arch"], report["arch"])
    return f"{series} {arch} {report['asked']}"


def column(report: Report) -> Column:
    return {(cell["way"], cell["operation"]): outcome(cell) for cell in report["cells"]}


def committed() -> dict[str, Column]:
    """The page's columns."""
    columns: dict[str, Column] = {}
    if not PAGE.exists():
        return columns
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    at = next((number for number, row in enumerate(rows) if row[0] == "way"), None)
    if at is None:
        return columns
    heads = [head.replace("<br>", " ") for head in rows[at][2:-1]]
    for row in rows[at + 2 :]:
        for operation in row[1].split(", "):
            for head, value in zip(heads, row[2 : 2 + len(heads)], strict=True):
                columns.setdefault(head, {})[row[0].strip("`"), operation] = value
    return columns


def differences(report: Report, head: str) -> list[str]:
    """Where the committed column and the report part."""
    there, seen = committed().get(head, {}), column(report)
    return [
        f"{head}: {operation} by {way}: the page says {there.get((way, operation))}, seen {seen.get((way, operation))}"
        for way, operation in sorted({*there, *seen})
        if there.get((way, operation)) != seen.get((way, operation))
    ]


def page(reports: list[Report]) -> str:
    columns = committed()
    words = _words()
    names = dict(_names())
    for report in reports:
        columns[column_of(report)] = column(report)
        native = report["where"] == "native"
        series = ".".join(report["kernel"].split(".")[:2])
        names[column_of(report).rsplit(" ", 1)[0]] = series if native else report["kernel"]
        for cell in report["cells"]:
            if cell["found"] in ("missed", "twice"):
                words.setdefault((cell["way"], cell["operation"]), set()).add(cell["excused_by"])
    heads = [head for head in ORDER if head in columns]
    order = list(dict.fromkeys(key for report in reports for key in column(report)))
    order += [key for key in columns[heads[0]] if key not in order] if heads else []
    rows: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for key in order:
        values = tuple(columns[head].get(key, "—") for head in heads)
        why = (
            ", ".join(f"`{word}`" for word in sorted(words.get(key, ())))
            if "missed" in values or "twice" in values
            else ""
        )
        rows.setdefault((key[0], values, why), []).append(key[1])
    listed = ", ".join(f"{place} is {name}" for place, name in sorted(names.items()) if name not in place)
    lines = [
        "| way | operations | " + " | ".join(head.replace(" ", "<br>") for head in heads) + " | why |",
        "|---|---|" + "---|" * (len(heads) + 1),
    ]
    lines += [
        f"| `{way}` | {', '.join(operations)} | {' | '.join(values)} | {why} |"
        for (way, values, why), operations in rows.items()
    ]
    return HEAD.format(kernels=f"Kernels: {listed}.") + "\n".join(lines) + "\n"


def _names() -> list[tuple[str, str]]:
    """The kernels that the committed page names."""
    text = PAGE.read_text() if PAGE.exists() else ""
    _, _, rest = text.partition("Kernels: ")
    listed = rest.partition(".\n")[0]
    return [(place, name) for place, _, name in (part.partition(" is ") for part in listed.split(", ")) if name]


def _words() -> dict[tuple[str, str], set[str]]:
    """The blind spots that the committed page names, by way and operation."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in PAGE.read_text().splitlines() if PAGE.exists() else ():
        row = line.strip("|").split("|")
        if line.startswith("| `") and len(row) > 4:
            for operation in row[1].strip().split(", "):
                words = {word.strip(" `") for word in row[-1].split(",")} - {""}
                found[row[0].strip(" `"), operation] = words
    return found


def main() -> int:
    reports = []
    for path in sorted((kernels.ROOT / "build").glob("behaviour-*.json")):
        report = json.loads(path.read_text())
        if report["failures"]:
            print(f"{path.name}: {report['failures'][0]}", file=sys.stderr)
            return 1
        reports.append(report)
    PAGE.write_text(page(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
