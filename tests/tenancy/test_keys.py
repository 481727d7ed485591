"""The key file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tenancy.database import Database, open_database
from tenancy.keys import KeyFileError, UnusableKeyError, ensure_key, load_key, print_of
from tenancy.rotation import rotate
from tenancy.settings import TenancySettings
from tenancy.tokens import index_of, mint


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "token.key"
    ensure_key(path)
    key = load_key(path)
    ensure_key(path)
    assert load_key(path) == key
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [found.name for found in path.parent.iterdir()] == ["token.key"]


def test_all_who_race_to_make_the_key_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "token.key"

    def one(_number: int) -> bytes:
        ensure_key(path)
        return load_key(path)

    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(one, range(32)))
    assert len(keys) == 1
    assert [found.name for found in path.parent.iterdir()] == ["token.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token.key"
    ensure_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="0600"):
        load_key(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "token.key"
    path.write_bytes(b"k" * size)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="32 bytes"):
        load_key(path)


def test_a_lost_key_is_not_replaced_in_silence(db: Database, settings: TenancySettings) -> None:
    db.keys.prepare()
    settings.token_key_path.unlink()
    again = open_database(settings)
    try:
        with pytest.raises(KeyFileError, match="cannot be read"):
            again.keys.prepare()
        assert not settings.token_key_path.exists()
        ensure_key(settings.token_key_path)
        with pytest.raises(UnusableKeyError, match="is not the key"):
            again.keys.prepare()
        # A rotation does not put a new one in its place either.
        with pytest.raises(UnusableKeyError, match="is not the key"):
            rotate(again)
    finally:
        again.close()


def test_the_keys_print_gives_no_index_away() -> None:
    key, token = b"k" * 32, mint("hst")
    assert print_of(key) != index_of(key, token)
    assert key.hex() not in print_of(key)
