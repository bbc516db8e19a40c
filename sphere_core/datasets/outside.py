"""Data sets of plugins: a reader that a user's file brings, checked before and while it reads."""

from collections.abc import Mapping
from dataclasses import replace

from sphere_core.datasets.records import Record
from sphere_core.datasets.schemas import SCHEMAS, Schema
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.plugins.found import FoundRow, Plugins
from sphere_core.plugins.module import TABLES
from sphere_core.requests import EditRequest

__all__ = ["EMBEDDED", "find_schema", "outside_dataset"]

EMBEDDED = "factworld"


def find_schema(name: str, plugins: Plugins, *, where: str) -> Schema:
    """Return a data set's schema by name, of the release, of a loaded plugin or of an installed package.

    Raises InputError for an unknown name, with the nearest one, or a faulty row.
    """
    plugins.refuse_taken({"dataset": [*SCHEMAS, EMBEDDED]})
    if name in SCHEMAS:
        return SCHEMAS[name]
    found = plugins.find("dataset", name)
    if found is None:
        raise unknown_name("data set", name, [*SCHEMAS, EMBEDDED, *plugins.names("dataset")], where=where)
    row = found.row
    if not isinstance(row, Schema) or not callable(row.read):
        what = f"is a {type(row).__name__}, not a Schema with a function `read`"
        raise _fault(found, what, "Schema(title=..., target=..., read=a function of record, index and source)")
    return replace(row, read=_Reader(found))


def outside_dataset(name: str, plugins: Plugins) -> FoundRow | None:
    """Return the plugin's row that reads a data set; None for one of the release."""
    return None if name in (*SCHEMAS, EMBEDDED) else plugins.find("dataset", name)


class _Reader:
    """A plugin's `read` in the form of the release's: a request becomes a record, its errors name it and the record."""

    def __init__(self, found: FoundRow) -> None:
        self._found = found

    def __call__(self, record: Mapping[str, object], index: int, source: str) -> Record:
        try:
            read = self._found.row.read(record, index, source)
        except InputError:
            raise
        except Exception as error:  # whatever the plugin's own code raises
            what = f"cannot read record {index} of {source}: {type(error).__name__}: {error}"
            raise _fault(self._found, what, "correct `read`, or the record") from error
        if isinstance(read, EditRequest):
            return Record(read.case_id, (read,))
        if not isinstance(read, Record):
            what = f"makes a {type(read).__name__} of record {index} of {source}"
            raise _fault(self._found, what, "`read` returns an EditRequest, or a Record of several")
        return read


def _fault(found: FoundRow, what: str, remedy: str) -> InputError:
    where = f"{found.plugin.place}, {TABLES['dataset']}['{found.name}']"
    owner = f"the data set '{found.name}' of the plugin '{found.plugin.reference.name}'"
    return InputError(f"{owner} {what}", where=where, remedy=remedy)
