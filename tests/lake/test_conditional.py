from __future__ import annotations

from pathlib import Path

import pytest

from lake.conditional import UnfitStoreError, require_conditional_put
from lake.stores import AlreadyExistsError, LocalStore


class Replacing(LocalStore):
    """A store that ignores the condition, as some do."""

    def put_new(self, key: str, data: bytes) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / key).write_bytes(data)


class Lying(Replacing):
    """A store that says that an object is there, and replaces it all the same."""

    def put_new(self, key: str, data: bytes) -> None:
        there = (self.root / key).exists()
        super().put_new(key, data)
        if there:
            raise AlreadyExistsError(key)


def test_a_store_that_keeps_what_is_there_is_fit_and_left_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    require_conditional_put(store, "the staging store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Replacing, Lying])
def test_a_store_that_replaces_is_refused_by_name(tmp_path: Path, kind: type[LocalStore]) -> None:
    with pytest.raises(UnfitStoreError, match="the staging store at s3://bucket has no conditional put"):
        require_conditional_put(kind(tmp_path), "the staging store at s3://bucket")
    assert list(tmp_path.iterdir()) == []
