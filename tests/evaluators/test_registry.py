"""Evaluators from what a sweep's YAML says."""

from pathlib import Path

import pytest
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from evaluators.base import Evaluator, Score
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.general.task_files import FILE_FORMATS, source_digests, task_config
from evaluators.geometry.evaluator import Geometry
from evaluators.registry import EVALUATOR_KINDS, build_evaluator, describe_evaluator, read_evaluator_settings
from sphere_core.foundation.errors import InputError


def test_each_kind_is_built_from_its_settings() -> None:
    quality = build_evaluator(read_evaluator_settings({"kind": "edit_quality", "token_budget": 99}, where="here"))
    assert isinstance(quality, EditQuality)
    assert quality.settings == EditQualitySettings(token_budget=99)
    geometry = build_evaluator(read_evaluator_settings({"kind": "geometry"}, where="here"))
    assert isinstance(geometry, Geometry)
    for evaluator in (quality, geometry):
        assert isinstance(evaluator, Evaluator)
        assert evaluator.kind in EVALUATOR_KINDS
        assert evaluator.identity()["kind"] == evaluator.kind


@pytest.mark.parametrize(
    ("entry", "what", "remedy"),
    [
        ({}, "no kind", "edit_quality"),
        ({"kind": "geometri"}, "unknown evaluator kind 'geometri'", "did you mean 'geometry'"),
        ({"kind": "edit_quality", "token_buget": 1}, "token_buget", "did you mean 'token_budget'"),
        ({"kind": "edit_quality", "token_budget": 0}, "greater than 0", ""),
        ({"kind": "general"}, "required", ""),
        ({"kind": "general", "tasks": []}, "at least 1", ""),
    ],
)
def test_wrong_settings_are_refused(entry: dict, what: str, remedy: str) -> None:
    with pytest.raises(InputError, match=what) as raised:
        read_evaluator_settings(entry, where="evaluators[2]")
    assert remedy in raised.value.remedy
    assert raised.value.where.startswith("evaluators[2]")


def test_a_collapsed_score_has_no_value() -> None:
    score = Score("efficacy", "argmax", None, None, 3, 1, 0, "collapsed", True)
    assert score.value is None
    with pytest.raises(ValueError, match="collapsed with the value"):
        Score("efficacy", "argmax", 0.0, None, 3, 1, 0, "collapsed", True)
    with pytest.raises(ValueError, match="ok with the value"):
        Score("efficacy", "argmax", None, None, 3, 0, 0, "ok", True)


def test_task_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("task: a\ninclude: b.yaml\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("include: a.yaml\n", encoding="utf-8")
    for read in (task_config, source_digests):
        with pytest.raises(InputError, match=r"a\.yaml is included by itself") as caught:
            read(tmp_path / "a.yaml")
        assert "b.yaml" in str(caught.value.where)


def test_formats_of_local_files_are_those_of_datasets() -> None:
    assert set(_PACKAGED_DATASETS_MODULES) == FILE_FORMATS


def test_a_description_is_what_the_built_evaluator_says_of_itself() -> None:
    for raw in (
        {"kind": "edit_quality", "generation": {"every": 2, "fluency": {}}},
        {"kind": "edit_quality", "protocols": ["correct", "paper-memit"]},
        {"kind": "general", "tasks": ["factworld"]},
        {"kind": "geometry"},
        {"kind": "geometry", "previous": False, "bound": False},
    ):
        settings = read_evaluator_settings(raw, where="test")
        said, built = describe_evaluator(settings), build_evaluator(settings)
        assert said.identity == built.identity()
        assert said.reads_generation == built.reads_generation
        assert said.reads_previous == built.reads_previous
        assert said.reads_moments == built.reads_moments
