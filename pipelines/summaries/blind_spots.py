"""What capture modes cannot see, in our words: the agent sends keys, and only keys that we know are repeated."""

from __future__ import annotations

from typing import Final

BLIND_SPOTS: Final[dict[str, str]] = {
    "aio_writes": "Writes that programs submit through Linux AIO",
    "bind_creates": "Socket files that programs make by binding them",
    "denied_lookups": "Operations other than opens that were refused on their way, in a closed folder for example",
    "denied_opens": "Opens that were refused",
    "descriptor_reuse_race": "Which file it was, when a program swaps a descriptor in the middle of a call",
    "exec_opens": "Programs being started, as opens of their files",
    "inner_writes": "How many writes one copy or transfer within the kernel was: up to three are counted",
    "io_uring_fixed_files": "Requests through io_uring on registered files",
    "io_uring_requests": "Requests through io_uring",
    "io_uring_results": "Whether a request through io_uring succeeded",
    "ioctl_writes": "Contents changed by special requests such as cloning a file",
    "kernel_writes": "What the kernel itself writes: core dumps, network file service, swap",
    "late_open_failures": "Opens that the file system itself refused after all checks: they count as done",
    "memfd_writes": "Memory files, which have no path",
    "mmap_then_mprotect": "Files mapped into memory for reading and made writable there later",
    "mode_before_unknown": "The permissions that a change of permissions replaced",
    "o_path_opens": "Opens that give no access to a file's contents",
    "path_string_race": "A path that another thread changed while the call was under way",
    "recursion_misses": "Events that struck while the same CPU was recording another",
    "results": "Whether operations succeeded: they are seen before they are done",
    "silent_hooks": "What a hook missed that stopped working while the agent ran",
    "some_results": "Whether some kinds of operation succeeded",
    "stores_into_mappings": "Stores into files mapped into memory; that they were mapped for writing is seen",
    "symlinks_unresolved_in_requested_paths": "Where symbolic links led, in paths marked as requested",
    "write_results": "Whether writes succeeded: they are seen before they are done",
    "x32_calls": "System calls through the x32 interface",
}
"""Key from a batch's `blind_spots` → what it means to a reader."""

OTHER: Final = "A limit that this version of kaimon has no words for yet"


def known(spots: list[str]) -> list[str]:
    """Return the keys that we know, sorted, and `other` once if there are more: a key is the agent's word."""
    ours = sorted(set(spots) & BLIND_SPOTS.keys())
    return [*ours, "other"] if set(spots) - BLIND_SPOTS.keys() else ours


def describe(key: str) -> str:
    """Return the words for a key that `known` returned."""
    return BLIND_SPOTS.get(key, OTHER)
