"""The kinds of evaluators: their settings, what is known of them without loading a model, and building one.

Reading settings and describing an evaluator load neither torch nor the harness; building one does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from evaluators.edit_quality.settings import EditQualitySettings
from evaluators.general.asked_tasks import AskedTasks
from evaluators.general.settings import GeneralAbilitySettings
from evaluators.geometry.settings import GeometrySettings
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.lazy import load_object

if TYPE_CHECKING:
    from evaluators.base import Evaluator

__all__ = [
    "EVALUATOR_KINDS",
    "Description",
    "EvaluatorSettings",
    "build_evaluator",
    "describe_evaluator",
    "read_evaluator_settings",
]

AnySettings = EditQualitySettings | GeneralAbilitySettings | GeometrySettings
EvaluatorSettings = Annotated[AnySettings, Field(discriminator="kind")]
EVALUATOR_KINDS: dict[str, type[BaseModel]] = {
    "edit_quality": EditQualitySettings,
    "general": GeneralAbilitySettings,
    "geometry": GeometrySettings,
}
# Where the class of each kind is, imported when one is built.
_CLASSES = {
    "edit_quality": "evaluators.edit_quality.evaluator:EditQuality",
    "general": "evaluators.general.evaluator:GeneralAbility",
    "geometry": "evaluators.geometry.evaluator:Geometry",
}


@dataclass(frozen=True)
class Description:
    """What is known of an evaluator from its settings and files: what can change its scores, and what it reads beside
    a checkpoint and its requests."""

    identity: dict[str, object]
    reads_generation: bool = False
    reads_previous: bool = False
    reads_moments: bool = False


def read_evaluator_settings(raw: Mapping[str, object], *, where: str) -> AnySettings:
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
    adapter: TypeAdapter[AnySettings] = TypeAdapter(EvaluatorSettings)
    try:
        return adapter.validate_python(dict(raw))
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"][1:])
        raise InputError(
            fault["msg"], where=f"{where}, field {field}", remedy="see the evaluator's settings"
        ) from error


def describe_evaluator(settings: AnySettings) -> Description:
    """Return what is known of an evaluator before any model is loaded, with its tasks looked up and checked.

    Raises InputError if a task, a file or data is missing, or where the harness refuses a task. The harness is
    loaded only for tasks that do not come with the project.
    """
    match settings:
        case EditQualitySettings():
            return Description(settings.identity(), reads_generation=settings.reads_generation)
        case GeometrySettings():
            return Description(
                settings.identity(), reads_previous=settings.reads_previous, reads_moments=settings.reads_moments
            )
        case GeneralAbilitySettings():
            asked = AskedTasks(settings)
            asked.check()
            return Description(asked.identity())


def build_evaluator(settings: AnySettings) -> "Evaluator":
    """Return a fresh evaluator; raises InputError if its files are missing. Loads no model and no data."""
    built: Evaluator = load_object(_CLASSES[settings.kind])(settings)
    return built
