"""Parquet that we wrote: whatever bit flips, no other number or name comes back."""

import base64
import io
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sphere_core.foundation.parquet import parquet_bytes, parquet_table, require_whole, stored_schema

TABLE = pa.table(
    {"value": np.random.default_rng(0).normal(size=300), "name": [f"n{place % 7}" for place in range(300)]},
    metadata={"scores": "[1, 2]"},
)
DATA = parquet_bytes(TABLE)


def test_a_table_comes_back_with_its_metadata_and_equal_tables_give_equal_bytes() -> None:
    assert parquet_table(DATA).equals(TABLE, check_metadata=True)
    assert parquet_table(DATA, ["name"]).column_names == ["name"]
    assert parquet_bytes(TABLE) == DATA
    assert pq.read_table(io.BytesIO(DATA)).equals(TABLE)


def test_a_bit_that_flips_anywhere_is_noticed() -> None:
    choice = random.Random(0)
    key = DATA.index(b"sphere:sha256")
    in_key = [(place, bit) for place in range(key, key + 79) for bit in range(8)]
    elsewhere = [*range(0, 60), *(choice.randrange(len(DATA)) for _ in range(400))]
    for place, bit in [*in_key, *((place, choice.randrange(8)) for place in elsewhere)]:
        data = bytearray(DATA)
        data[place] ^= 1 << bit
        with pytest.raises((OSError, pa.ArrowException)):
            parquet_table(bytes(data))


@pytest.mark.parametrize("length", [0, 3, 11, 400, len(DATA) - 1])
def test_a_file_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(pa.ArrowInvalid):
        require_whole(DATA[:length])


def test_files_of_earlier_releases_have_no_digest_and_are_read() -> None:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    assert parquet_table(sink.getvalue()).num_rows == 300


def test_the_stored_schema_is_that_of_equal_columns_alone() -> None:
    other_values = parquet_bytes(TABLE.slice(0, 1))
    assert stored_schema(DATA) == stored_schema(other_values)
    decoded = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored_schema(DATA))))
    assert decoded.remove_metadata() == TABLE.schema.remove_metadata()
    renamed = parquet_bytes(TABLE.rename_columns([f"{name}x" for name in TABLE.column_names]))
    assert stored_schema(renamed) not in (None, stored_schema(DATA))
    plain = io.BytesIO()
    pq.write_table(TABLE, plain, store_schema=False)
    assert stored_schema(plain.getvalue()) is None
