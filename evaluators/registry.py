"""The kinds of evaluators, and building one from what a sweep's YAML says."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from evaluators.base import Evaluator
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.general.evaluator import GeneralAbility, GeneralAbilitySettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.foundation.errors import InputError, unknown_name

__all__ = ["EVALUATOR_KINDS", "EvaluatorSettings", "build_evaluator", "read_evaluator_settings"]

EvaluatorSettings = Annotated[
    EditQualitySettings | GeneralAbilitySettings | GeometrySettings, Field(discriminator="kind")
]
EVALUATOR_KINDS: dict[str, type[BaseModel]] = {
    "edit_quality": EditQualitySettings,
    "general": GeneralAbilitySettings,
    "geometry": GeometrySettings,
}


def read_evaluator_settings(
    raw: Mapping[str, object], *, where: str
) -> EditQualitySettings | GeneralAbilitySettings | GeometrySettings:
    """Check one evaluator's entry, `{kind: ..., ...}`; raises InputError with the nearest valid name."""
    kind = raw.get("kind")
    if kind is None:
        raise InputError("an evaluator has no kind", where=where, remedy=f"kinds: {', '.join(EVALUATOR_KINDS)}")
    if kind not in EVALUATOR_KINDS:
        raise unknown_name("evaluator kind", str(kind), EVALUATOR_KINDS, where=where)
    known = EVALUATOR_KINDS[str(kind)].model_fields
    for key in raw:
        if key not in known:
            raise unknown_name(f"key of evaluator '{kind}'", str(key), known, where=where)
    adapter: TypeAdapter[EditQualitySettings | GeneralAbilitySettings | GeometrySettings]
    adapter = TypeAdapter(EvaluatorSettings)
    try:
        return adapter.validate_python(dict(raw))
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"][1:])
        raise InputError(
            fault["msg"], where=f"{where}, field {field}", remedy="see the evaluator's settings"
        ) from error


def build_evaluator(settings: EditQualitySettings | GeneralAbilitySettings | GeometrySettings) -> Evaluator:
    """Return a fresh evaluator; raises InputError where its files are missing. Loads no model and no data."""
    match settings:
        case EditQualitySettings():
            return EditQuality(settings)
        case GeneralAbilitySettings():
            return GeneralAbility(settings)
        case GeometrySettings():
            return Geometry(settings)
