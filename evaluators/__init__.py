"""Scores of an edited model: edit quality, general ability, geometry. Alone in importing lm_eval."""

from evaluators.edit_quality import EditQuality, EditQualitySettings
from evaluators.general import GeneralAbility, GeneralAbilitySettings
from evaluators.geometry import Geometry, GeometrySettings
from evaluators.registry import EVALUATOR_KINDS, EvaluatorSettings, build_evaluator, read_evaluator_settings
from evaluators.rows import Evaluator, Health, MissingPrevious, Previous, Score, Scored, Subject

__all__ = [
    "EVALUATOR_KINDS",
    "EditQuality",
    "EditQualitySettings",
    "Evaluator",
    "EvaluatorSettings",
    "GeneralAbility",
    "GeneralAbilitySettings",
    "Geometry",
    "GeometrySettings",
    "Health",
    "MissingPrevious",
    "Previous",
    "Score",
    "Scored",
    "Subject",
    "build_evaluator",
    "read_evaluator_settings",
]
