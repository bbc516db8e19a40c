"""The kinds of evaluators: their settings, what is known of them without loading a model, and building one.

Reading settings and describing an evaluator load neither torch nor the harness; building one does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from evaluators.edit_quality.settings import EditQualitySettings
from evaluators.general.asked_tasks import AskedTasks
from evaluators.general.settings import GeneralAbilitySettings
from evaluators.geometry.settings import GeometrySettings
from evaluators.plugins.rows import OutsideSettings, build_outside, outside_settings
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.lazy import load_object
from sphere_core.foundation.validation import validated
from sphere_core.plugins.found import NO_PLUGINS, Plugins

if TYPE_CHECKING:
    from evaluators.base import Evaluator

__all__ = [
    "EVALUATOR_KINDS",
    "Description",
    "build_evaluator",
    "describe_evaluator",
    "read_evaluator_settings",
]

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
AnySettings = EditQualitySettings | GeneralAbilitySettings | GeometrySettings | OutsideSettings


@dataclass(frozen=True)
class Description:
    """What is known of an evaluator from its settings and files: what can change its scores, and what it reads beside
    a checkpoint and its requests."""

    identity: dict[str, object]
    reads_generation: bool = False
    reads_previous: bool = False
    reads_moments: bool = False


def read_evaluator_settings(raw: Mapping[str, object], *, where: str, plugins: Plugins = NO_PLUGINS) -> AnySettings:
    """Check one evaluator's entry, `{kind: ..., ...}`; raises InputError with the nearest valid name.

    A kind that the release does not have is looked up in `plugins` and in installed packages.
    """
    plugins.refuse_taken({"evaluator": EVALUATOR_KINDS})
    kind = raw.get("kind")
    if kind is None:
        raise InputError("an evaluator has no kind", where=where, remedy=f"kinds: {', '.join(EVALUATOR_KINDS)}")
    if kind not in EVALUATOR_KINDS:
        found = plugins.find("evaluator", str(kind))
        if found is None:
            known = [*EVALUATOR_KINDS, *plugins.names("evaluator")]
            raise unknown_name("evaluator kind", str(kind), known, where=where)
        return outside_settings(found, {key: value for key, value in raw.items() if key != "kind"}, where=where)
    settings = EVALUATOR_KINDS[str(kind)]
    for key in raw:
        if key not in settings.model_fields:
            raise unknown_name(f"key of evaluator '{kind}'", str(key), settings.model_fields, where=where)
    return cast(AnySettings, validated(settings, raw, where=where))


def describe_evaluator(settings: AnySettings, *, run_code: bool = False) -> Description:
    """Return what is known of an evaluator before any model is loaded, with its tasks looked up and checked.

    Raises InputError if a task, a file or data is missing, or where the harness refuses a task. The harness is
    loaded only for tasks that do not come with the project. With `run_code`, trusted Python of task files is run to
    check them; without, never. A plugin's evaluator is built to be asked.
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
            asked.check(run_code=run_code)
            return Description(asked.identity())
        case OutsideSettings():
            built = build_outside(settings)
            return Description(
                settings.identity(built),
                reads_generation=built.reads_generation,
                reads_previous=built.reads_previous,
                reads_moments=built.reads_moments,
            )


def build_evaluator(settings: AnySettings) -> "Evaluator":
    """Return a fresh evaluator; raises InputError if its files are missing. Loads no model and no data."""
    if isinstance(settings, OutsideSettings):
        return build_outside(settings)
    built: Evaluator = load_object(_CLASSES[settings.kind])(settings)
    return built
