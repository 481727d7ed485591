"""What capture modes cannot see, in our words: the agent sends keys, and only keys that we know are repeated."""

from __future__ import annotations

from typing import Final

BLIND_SPOTS: Final[dict[str, str]] = {
    "io_uring_writes": "Writes that a program submits through io_uring",
    "compat_int80": "System calls of 32-bit programs",
    "mmap_then_mprotect": "Files mapped for reading and made writable later",
    "chroot_relative_paths": "Where exactly a path lies inside a changed root",
    "symlinks_unresolved_in_requested_paths": "Where a symbolic link led, when the path is the caller's own",
    "path_string_race": "A path that its caller changed while the kernel read it",
    "recursion_misses": "Events that struck while the same CPU was recording another",
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
