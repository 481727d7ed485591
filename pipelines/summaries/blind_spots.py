"""What capture modes cannot see, in our words: the agent sends keys, and only keys that we know are repeated."""

from __future__ import annotations

from typing import Final

BLIND_SPOTS: Final[dict[str, str]] = {
    "aio_writes": "Writes that programs submit through Linux AIO",
    "bind_creates": "Socket files that programs make by binding them",
    "descriptor_reuse_race": "Which file it was, when a program swaps a descriptor in the middle of a call",
    "exec_opens": "Programs being started, as opens of their files",
    "io_uring_fixed_files": "Requests through io_uring on registered files",
    "io_uring_requests": "Requests through io_uring",
    "io_uring_results": "Whether a request through io_uring succeeded",
    "ioctl_writes": "Contents changed by special requests such as cloning a file",
    "kernel_writes": "What the kernel itself writes: core dumps, network file service, swap",
    "memfd_writes": "Memory files, which have no path",
    "mmap_then_mprotect": "Stores into files mapped into memory; that they were mapped for writing is seen, mostly",
    "mode_before_unknown": "The permissions that a change of permissions replaced",
    "path_string_race": "A path that another thread changed while the call was under way",
    "recursion_misses": "Events that struck while the same CPU was recording another",
    "symlinks_unresolved_in_requested_paths": "Where symbolic links led, in paths marked as requested",
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
