"""Parquet that we wrote: a damaged page is noticed, and the columns that are wanted come back."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sphere_core.foundation.parquet import parquet_table

VALUES = np.random.default_rng(0).normal(size=2000)


def written(*, checksum: bool) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"value": VALUES, "name": [f"n{place % 7}" for place in range(2000)]})
    pq.write_table(table, sink, compression="none", write_page_checksum=checksum)
    return sink.getvalue()


def test_columns() -> None:
    data = written(checksum=True)
    assert parquet_table(data).column_names == ["value", "name"]
    assert parquet_table(data, ["name"]).column_names == ["name"]
    assert parquet_table(data)["value"].to_pylist() == VALUES.tolist()


@pytest.mark.parametrize("place", [900, 5000, 12_000])
def test_a_bit_that_flipped_in_a_page_is_never_a_number(place: int) -> None:
    data = bytearray(written(checksum=True))
    data[place] ^= 1 << 3
    with pytest.raises((OSError, pa.ArrowInvalid)):
        parquet_table(bytes(data))


def test_pages_of_an_earlier_release_have_no_checksum_and_are_read() -> None:
    assert parquet_table(written(checksum=False)).num_rows == 2000
