from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import durable, stores
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, LocalStore, MissingError, StoreError, local_folder, open_store


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_an_object_comes_back_as_it_was_put(store: LocalStore) -> None:
    store.put_new("a/b/c.parquet", b"bytes")
    assert store.get("a/b/c.parquet") == b"bytes"
    with pytest.raises(MissingError):
        store.get("a/b/d.parquet")
    with pytest.raises(MissingError):
        store.get("a/b")


def test_a_key_is_put_once_and_the_first_bytes_stay(store: LocalStore) -> None:
    store.put_new("a/b", b"first")
    with pytest.raises(AlreadyExistsError):
        store.put_new("a/b", b"second")
    assert store.get("a/b") == b"first"
    assert [path.name for path in (store.root / "a").iterdir()] == ["b"], "no temporary file is left"


def test_of_many_writers_of_one_key_exactly_one_succeeds(store: LocalStore) -> None:
    def put(number: int) -> bool:
        try:
            store.put_new("a/b", str(number).encode())
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(32)))
    assert won.count(True) == 1
    assert store.get("a/b") == str(won.index(True)).encode()


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".hidden", "a/.b", "a\x00b", "a b", "a\nb", "é"]
)
def test_a_key_never_leaves_the_store(store: LocalStore, key: str) -> None:
    for use in (lambda: store.put_new(key, b""), lambda: store.get(key), lambda: store.delete([key])):
        with pytest.raises(ValueError, match="not a key"):
            use()
    if key:
        with pytest.raises(ValueError, match="not a key"):
            list(store.list(key))


@settings(deadline=None, max_examples=40)
@given(
    st.sets(st.lists(st.sampled_from(["a", "a-", "a.b", "b", "0"]), min_size=1, max_size=3).map("/".join)), st.data()
)
def test_a_listing_is_in_key_order_and_starts_after(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], data: st.DataObject
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    names = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    for key in names:
        store.put_new(key, b"x")
    assert [stored.key for stored in store.list("")] == sorted(names)
    if names:
        after = data.draw(st.sampled_from(sorted(names)))
        assert [stored.key for stored in store.list("", after)] == [key for key in sorted(names) if key > after]


def test_a_listing_shows_sizes_and_hides_what_is_being_written(store: LocalStore) -> None:
    store.put_new("t/n/1", b"four")
    (store.root / "t/n/.2.abc").write_bytes(b"half")
    assert [(stored.key, stored.size) for stored in store.list("t/n")] == [("t/n/1", 4)]
    assert (store.prefixes(""), store.prefixes("t"), store.prefixes("t/n"), store.prefixes("u")) == (
        ["t"], ["n"], [], [],
    )  # fmt: skip
    assert list(store.list("u")) == []


def test_deleting_what_is_not_there_is_no_error(store: LocalStore) -> None:
    store.put_new("a/b", b"")
    store.delete(["a/b", "a/c"])
    assert list(store.list("")) == []


def test_the_object_its_name_and_every_new_folder_are_fsynced_in_that_order(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.put_new("t/n/1", b"x")
    root = store.root
    assert synced[:3] == [str(root.parent), str(root), str(root / "t")]
    assert Path(synced[3]).name.startswith(".1.")
    assert synced[4:] == [str(root / "t/n")]


def test_a_put_whose_folder_cannot_be_made_durable_is_not_answered_as_done(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(5, "Input/output error")

    (store.root / "t").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(stores, "sync_folder", fail)
        for _ in range(2):
            with pytest.raises(StoreError, match="Input/output") as failure:
                store.put_new("t/1", b"x")
            assert not isinstance(failure.value, AlreadyExistsError), "it is there, and not known to be durable"
    with pytest.raises(AlreadyExistsError):
        store.put_new("t/1", b"x")


def test_a_full_disk_is_an_error_that_leaves_nothing(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (store.root / "t").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.put_new("t/1", b"x")
    assert list((store.root / "t").iterdir()) == []


def test_each_store_has_a_folder_of_its_own_at_home(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path / "sp ace")
    open_store("staging", settings).put_new("a", b"x")
    assert (tmp_path / "sp ace" / "staging" / "a").read_bytes() == b"x"
    assert {settings.url(name) for name in ("staging", "lake", "audit", "public", "outbox")} == {
        f"file://{quote(str(tmp_path))}/sp%20ace/{name}" for name in ("staging", "lake", "audit", "public", "outbox")
    }


@pytest.mark.parametrize("url", ["s3://bucket/x", "file://host/x", "relative", "file:relative", ""])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="file:///absolute"):
        local_folder(url)


def test_folders_that_are_there_are_left_alone(tmp_path: Path) -> None:
    durable.make_folders(tmp_path / "a" / "b")
    durable.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
