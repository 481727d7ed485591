"""Keeps pandas out of a process: pyarrow loads it wherever it is installed, which is half of a query's start."""

from __future__ import annotations

import sys


class _NoPandas:
    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(name)


def without_pandas() -> None:
    """Make every import of pandas fail from here on; only for a process that is all ours."""
    sys.meta_path.insert(0, _NoPandas)
