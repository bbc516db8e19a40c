"""Specifications of an earlier commit: their contexts and second moments are read and written again alike, ids stay."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from repository import DATA

from sphere_core.trajectory_spec import TrajectorySpec

RECORDED = json.loads((DATA / "records" / "trajectory_specs.json").read_text(encoding="utf-8"))


def read(contexts: Any, moments: Any) -> TrajectorySpec:
    return TrajectorySpec.model_validate_json(
        json.dumps({**RECORDED["spec"], "contexts": contexts, "moments": moments})
    )


@pytest.mark.parametrize("name", RECORDED["sections"])
def test_sections_are_read_and_written_again_alike(name: str) -> None:
    recorded = RECORDED["sections"][name]
    contexts, moments = recorded["contexts"], recorded["moments"]
    spec = read(contexts, moments)
    assert spec.id == recorded["id"]
    assert spec.moments.is_given == bool(moments)
    written = json.loads(spec.model_dump_json(indent=1))
    # As texts: the order of keys is that of the file.
    assert json.dumps([written["contexts"], written["moments"]]) == json.dumps([contexts, moments])


@pytest.mark.parametrize(
    ("contexts", "moments"),
    [
        ({}, {}),
        ({"groups": [["{}"]], "sampled": {}}, {}),
        ({"groups": [["{}"]]}, {"file_digset": "0"}),
        ({"groups": [["{}"]]}, {"file_digest": "0", "digest": "0"}),
        ({"groups": [["{}"]]}, {"tokens": 5}),
    ],
)
def test_sections_that_are_none_are_refused(contexts: Any, moments: Any) -> None:
    with pytest.raises(ValidationError):
        read(contexts, moments)
