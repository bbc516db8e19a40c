"""Which hyperparameters belong to which method, and what a preset was made for."""

import pytest

from sphere_core.hyperparameters import Hyperparameters, fields_of, preset_misfit
from sphere_core.hyperparameters.owners import _ROWS
from sphere_core.methods.editors import EDITORS
from sphere_core.methods.regularizers import REGULARIZERS


def test_every_row_can_use_what_it_requires() -> None:
    for rows in (EDITORS, REGULARIZERS):
        for name, row in rows.items():
            required = {field for alternatives in row.requires for field in alternatives}
            assert required <= fields_of([name]), name


def test_the_table_names_fields_and_rows_that_exist() -> None:
    assert set(_ROWS) <= set(Hyperparameters.model_fields)
    assert {row for rows in _ROWS.values() for row in rows} <= {*EDITORS, *REGULARIZERS}


def test_a_field_of_one_method_is_none_of_another() -> None:
    assert "nse_alpha" in fields_of(["nse"])
    assert "nse_alpha" not in fields_of(["memit", "sphere"])
    assert fields_of(["memit", "sphere"]) == fields_of(["memit"]) | {"energy_ratio", "strength", "basis"}
    assert fields_of([]) == set(Hyperparameters.model_fields)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, None),
        ({"layers": 30}, "layers 32, not 30"),
        ({"family": "qwen2"}, "family llama, not qwen2"),
        ({"d_in": 8192, "d_out": 2048}, "d_out 4096, not 2048, d_in 14336, not 8192"),
    ],
)
def test_a_preset_says_what_it_was_made_for(change: dict[str, object], what: str | None) -> None:
    shape = {"family": "llama", "layers": 32, "d_out": 4096, "d_in": 14336, **change}
    found = preset_misfit("llama3-8b", **shape)  # type: ignore[arg-type]
    assert (found is None) == (what is None)
    assert what is None or what in str(found)
