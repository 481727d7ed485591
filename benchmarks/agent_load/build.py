"""A program to compile: C files that include real headers, the same ones for the same seed."""

from __future__ import annotations

import random
from pathlib import Path

HEADERS = [
    "stdio.h",
    "stdlib.h",
    "string.h",
    "math.h",
    "time.h",
    "errno.h",
    "unistd.h",
    "fcntl.h",
    "pthread.h",
    "signal.h",
    "sys/socket.h",
    "netinet/in.h",
    "sys/stat.h",
    "sys/types.h",
    "sys/wait.h",
    "sys/mman.h",
    "sys/epoll.h",
    "netdb.h",
    "poll.h",
    "dirent.h",
    "regex.h",
    "locale.h",
    "wchar.h",
]

FUNCTION = """\
static struct node *{name}(struct node *list, size_t n)
{{
	for (size_t i = 0; i < n; i++) {{
		struct node *next = malloc(sizeof(*next));

		next->value = sin({a} * i) + list->value;
		snprintf(next->name, sizeof(next->name), "%zu-%s-%d", i, strerror((int)i % {b}), {c});
		next->next = list;
		list = next->value > {d}.0 ? next : next->next;
	}}
	return list;
}}
"""


def generate(folder: Path, files: int, seed: int = 11) -> None:
    """Write `files` C files and a Makefile that compiles and links them."""
    rng = random.Random(seed)
    for number in range(files):
        parts = [f"#include <{header}>\n" for header in rng.sample(HEADERS, 12)]
        parts += [f"#include <{header}>\n" for header in ("stdio.h", "stdlib.h", "string.h", "math.h")]
        parts.append("struct node { double value; char name[64]; struct node *next; };\n")
        names = [f"f{number}_{part}" for part in range(rng.randint(4, 12))]
        for name in names:
            a, b, c, d = (rng.randint(1, 99) for _ in range(4))
            parts.append(FUNCTION.format(name=name, a=a, b=b, c=c, d=d))
        calls = "".join(f"\tlist = {name}(list, {rng.randint(2, 9)});\n" for name in names)
        parts.append(f"double unit_{number}(void)\n{{\n\tstruct node first = {{ 0 }}, *list = &first;\n\n")
        parts.append(f"{calls}\treturn list->value;\n}}\n")
        (folder / f"unit_{number:03d}.c").write_text("".join(parts))
    declared = "".join(f"double unit_{number}(void);\n" for number in range(files))
    summed = " + ".join(f"unit_{number}()" for number in range(files))
    (folder / "main.c").write_text(f"{declared}int main(void)\n{{\n\treturn (int)({summed});\n}}\n")
    (folder / "Makefile").write_text(
        "objects := $(patsubst %.c,%.o,$(wildcard *.c))\n"
        "program: $(objects)\n\t$(CC) -o $@ $^ -lm\n"
        "%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n"
        "clean:\n\trm -f program $(objects)\n.PHONY: clean\n"
    )
