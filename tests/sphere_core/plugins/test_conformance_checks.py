"""The conformance checks pass on the starts that `sphere new` writes, and name the rule that a faulty row breaks."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluators.conformance import check_evaluator
from sphere_core.conformance import NotConformingError, check_editor, check_regularizer
from sphere_core.plugins import Plugins
from workflows.runs.new_plugin import start_of, start_plugin

CHECKS: dict[str, Callable[..., None]] = {
    "regularizer": check_regularizer,
    "editor": check_editor,
    "evaluator": check_evaluator,
}


def row_of(path: Path, kind: str) -> Any:
    found = Plugins.of_files([path]).find(kind, "mine")
    assert found is not None
    return found.row


@pytest.mark.parametrize("kind", CHECKS)
def test_a_start_conforms(tmp_path: Path, kind: str) -> None:
    path = start_plugin(kind=kind, name="mine", folder=tmp_path)
    CHECKS[kind](name="mine", row=row_of(path, kind))


def changed(kind: str, old: str, new: str) -> str:
    text = start_of(kind, "mine")
    assert old in text
    return text.replace(old, new)


BROKEN = SimpleNamespace(
    draws=("regularizer", "self.share * ", "__import__('torch').rand(1).clamp(min=0.9) * self.share * ", "drawn from"),
    nan=("regularizer", "return DenseUpdate(change", "return DenseUpdate(change * float('nan')", "updates are finite"),
    raises=("regularizer", "limit =", "assert change.isfinite().all(); limit =", "a result, not an error"),
    number=("evaluator", "max(norms), None", "1.0, None", "has no number"),
    writes=(
        "evaluator",
        "health =",
        "model.set_weight(model.sites[0], 2 * model.weight(model.sites[0])); health =",
        "left",
    ),
)


@pytest.mark.parametrize("fault", vars(BROKEN))
def test_a_broken_rule_is_named(tmp_path: Path, fault: str) -> None:
    kind, old, new, rule = getattr(BROKEN, fault)
    text = changed(kind, old, new)
    if fault == "number":
        text = text.replace("not math.isfinite(norm)", "False")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(NotConformingError, match=rule):
        CHECKS[kind](name="mine", row=row_of(tmp_path / "mine.py", kind))
