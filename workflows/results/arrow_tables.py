"""Arrow tables from Python records, without pandas.

Making an array from Python objects, even of none, has pyarrow import pandas if it is installed: half a second, which
no table of a sweep needs.
"""

import json
from collections.abc import Iterable, Mapping

import pyarrow as pa
from pyarrow.json import ParseOptions, ReadOptions, read_json

__all__ = ["empty_table", "table_of_records"]


def table_of_records(records: Iterable[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Return records of texts, numbers, truth values and None as a table of a schema, by way of JSON.

    Floats keep their bits: JSON spells them so that they read back equal. Records with an infinity or a NaN are
    converted by pyarrow itself. Raises pyarrow.ArrowInvalid for a value that is not of its column's type.
    """
    known = list(records)
    if not known:
        return empty_table(schema)
    try:
        text = "\n".join(json.dumps(record, allow_nan=False) for record in known)
    except ValueError:
        return pa.Table.from_pylist(known, schema=schema)
    # Columns that no record names are filled with nulls, and columns that the schema does not name are dropped.
    reading = ReadOptions(use_threads=False, block_size=max(1 << 20, 2 * len(text)))
    parsing = ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return read_json(pa.BufferReader(text.encode()), read_options=reading, parse_options=parsing).select(schema.names)


def empty_table(schema: pa.Schema) -> pa.Table:
    """Return a table of a schema without rows."""
    return pa.Table.from_batches([], schema=schema)
