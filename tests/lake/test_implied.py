"""What counts as the same in every row, wherever a group's batches meet."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lake.implied import constants_of


def _rows(*chunks: list[int | None]) -> pa.Table:
    return pa.table([pa.chunked_array(chunks, pa.int64())], ["uid"])


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ([[7]], {"uid": 7}),
        ([[7, 7], [7], [], [7, 7, 7]], {"uid": 7}),
        ([[None], [None, None]], {"uid": None}),
        ([[7, 8, 7]], {}),
        ([[7, 7], [8], [7, 7]], {}),
        ([[7, 7], [7, 8, 7], [7]], {}),
        ([[7, None], [7]], {}),
        ([[]], {}),
    ],
)
def test_a_value_is_a_constant_only_if_every_row_of_every_batch_has_it(
    chunks: list[list[int | None]], found: dict[str, int | None]
) -> None:
    assert constants_of(_rows(*chunks)) == found


@pytest.mark.parametrize(
    ("indices", "found"),
    [
        ([[1, 1], [1]], {"user": "b"}),
        ([[0, 1, 0]], {}),
        ([[None, None]], {"user": None}),
        ([[0, None]], {}),
        ([[]], {}),
    ],
)
def test_a_dictionary_of_which_every_row_has_one_value_is_a_constant(
    indices: list[list[int | None]], found: dict[str, str | None]
) -> None:
    values = pa.array(["a", "b"])
    pieces = [pa.DictionaryArray.from_arrays(pa.array(piece, pa.int32()), values) for piece in indices]
    assert constants_of(pa.table([pa.chunked_array(pieces)], ["user"])) == found
