"""Evaluators of plugins: checked before anything runs, each fault with its plugin and a remedy. Loads no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sphere_core.foundation.errors import InputError
from sphere_core.plugins.found import FoundRow
from sphere_core.plugins.module import TABLES
from sphere_core.plugins.settings import read_settings, settings_faults

if TYPE_CHECKING:
    from evaluators.base import Evaluator

__all__ = ["EvaluatorRow", "OutsideSettings", "build_outside", "outside_settings"]

_NEEDED = ("kind", "reads_generation", "reads_previous", "reads_moments", "identity", "score")


@dataclass(frozen=True)
class EvaluatorRow:
    """An evaluator of a plugin: `build` makes it from its `settings`, as a class does whose constructor takes them."""

    title: str
    settings: type[BaseModel]
    build: Callable[[Any], "Evaluator"]


@dataclass(frozen=True)
class OutsideSettings:
    """The settings of a plugin's evaluator, with the row and the code that they belong to."""

    kind: str
    values: BaseModel
    found: FoundRow

    def identity(self, evaluator: "Evaluator") -> dict[str, object]:
        """Return what can change a score: what the evaluator says of itself, its settings, and its code."""
        settings = self.values.model_dump(mode="json")
        code = self.found.plugin.reference.digest
        return {"kind": self.kind, "said": evaluator.identity(), "settings": settings, "code": code}


def outside_settings(found: FoundRow, given: Mapping[str, object], *, where: str) -> OutsideSettings:
    """Return the settings of a plugin's evaluator; raises InputError for a faulty row or a wrong setting."""
    row = found.row
    if not isinstance(row, EvaluatorRow):
        kind = "class" if isinstance(row, type) else type(row).__name__
        raise _fault(
            found, f"is a {kind}, not an EvaluatorRow", "write EvaluatorRow(title=..., settings=..., build=...)"
        )
    if not (isinstance(row.settings, type) and issubclass(row.settings, BaseModel)):
        raise _fault(found, "has settings that are not a class", "derive a class from sphere_core.plugins.RowSettings")
    faults = settings_faults(row.settings)
    if faults:
        remedy = "write KEY: TYPE = setting(DEFAULT, description='...', source='paper and table, or why')"
        raise _fault(found, f"has settings that say too little: {'; '.join(faults)}", remedy)
    return OutsideSettings(found.name, read_settings(row.settings, given, owner=found.name, where=where), found)


def build_outside(settings: OutsideSettings) -> "Evaluator":
    """Return a fresh evaluator of a plugin; raises InputError if its code raises, or makes something else."""
    found = settings.found
    try:
        built: Evaluator = found.row.build(settings.values)
        lacking = [name for name in _NEEDED if not hasattr(built, name)]
    except InputError:
        raise
    except Exception as error:  # whatever the plugin's own code raises
        what = f"cannot be made from its settings: {type(error).__name__}: {error}"
        raise _fault(found, what, "correct its constructor, which takes the settings") from error
    if lacking:
        remedy = "derive it from evaluators.plugins.PlainEvaluator, and define score(self, subject)"
        raise _fault(found, f"has no {', '.join(lacking)}", remedy)
    if built.kind != found.name:
        raise _fault(found, f"calls itself '{built.kind}'", f"kind = '{found.name}'")
    return built


def _fault(found: FoundRow, what: str, remedy: str) -> InputError:
    owner = f"the evaluator '{found.name}' of the plugin '{found.plugin.reference.name}'"
    return InputError(
        f"{owner} {what}", where=f"{found.plugin.place}, {TABLES['evaluator']}['{found.name}']", remedy=remedy
    )
