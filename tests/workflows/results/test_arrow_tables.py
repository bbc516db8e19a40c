"""Tables from records: equal to pyarrow's own conversion, to the bit, without pandas."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import REPOSITORY

from workflows.results.arrow_tables import empty_table, table_of_records

SCHEMA = pa.schema([("name", pa.string()), ("count", pa.int64()), ("value", pa.float64()), ("sound", pa.bool_())])
FIELDS = {
    "name": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    "count": st.none() | st.integers(-(2**63), 2**63 - 1),
    "value": st.none() | st.floats(),
    "sound": st.none() | st.booleans(),
}


@given(st.lists(st.fixed_dictionaries({}, optional=FIELDS), max_size=6))
def test_records_give_the_table_that_pyarrow_makes_of_them(records: list[dict]) -> None:
    found, expected = table_of_records(records, SCHEMA), pa.Table.from_pylist(records, schema=SCHEMA)
    assert found.schema == expected.schema
    for name in ("name", "count", "sound"):
        assert found[name].to_pylist() == expected[name].to_pylist()
    bits = [[None if v is None else np.float64(v).tobytes() for v in t["value"].to_pylist()] for t in (found, expected)]
    assert bits[0] == bits[1]


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        table_of_records([{"count": "many"}], SCHEMA)


def test_columns_that_the_schema_does_not_name_are_left_out() -> None:
    assert table_of_records([{"name": "a", "other": [1]}], SCHEMA).column_names == SCHEMA.names


def test_pandas_is_not_loaded() -> None:
    code = (
        "import sys, pyarrow as pa\nfrom workflows.results.arrow_tables import empty_table, table_of_records\n"
        "schema = pa.schema([('a', pa.string()), ('b', pa.dictionary(pa.int32(), pa.string()))])\n"
        "empty_table(schema)\ntable_of_records([{'a': 'x'}], pa.schema([('a', pa.string())]))\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
    assert empty_table(SCHEMA).num_rows == 0
