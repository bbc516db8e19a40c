"""The conformance checks pass on the starts that `sphere new` writes, and name the rule that a faulty row breaks."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluators.conformance import check_evaluator
from sphere_core.conformance import NotConformingError, check_editor, check_regularizer
from sphere_core.foundation.errors import InputError
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
    state=(
        "regularizer",
        "limit =",
        "self.seen = getattr(self, 'seen', 0) + 1; limit = self.seen *",
        "resumed from a checkpoint has equal bits",
    ),
    clock=("regularizer", "limit =", "limit = (1 + __import__('time').time() % 1) *", "a second run"),
    process=(
        "regularizer",
        "limit =",
        "__import__('torch').set_grad_enabled(False); limit =",
        "gradients enabled: True",
    ),
    fails=("regularizer", "limit =", "change[{}]; limit =", r"without an error; found: .*mine\.py, line \d+"),
    score=(
        "evaluator",
        "health =",
        "norms[99]; health =",
        r"without an error; found: IndexError: .*mine\.py, line \d+",
    ),
    python=("evaluator", "health =", "__import__('random').random(); health =", "random generators"),
    number=("evaluator", "max(norms), None", "1.0, None", "has no number"),
    writes=(
        "evaluator",
        "health =",
        "model.set_weight(model.sites[0], 2 * model.weight(model.sites[0])); health =",
        "left",
    ),
)


# What a method of a row returns, or changes: the message has the line of the method.
FORMS = SimpleNamespace(
    nothing=("return DenseUpdate(change", "DenseUpdate(change", "returns None, not an update"),
    turned=("limit.clamp(max=1.0))", "limit.clamp(max=1.0)).matrix.T", "returns a Tensor, not an update"),
    shape=("DenseUpdate(change", "DenseUpdate(change.T", r"another shape than its weight's \[64, 512\]"),
    half=("limit.clamp(max=1.0))", "limit.clamp(max=1.0).half())", "returns update.matrix in float16"),
    device=("limit.clamp(max=1.0))", "limit.clamp(max=1.0)).to('meta')", "on the device meta, not cpu"),
    weight=("limit =", "write.weight.mul_(1.01); limit =", "changes write.weight in place"),
    keys=("limit =", "write.keys.mul_(0.5); limit =", "changes write.keys in place"),
)


@pytest.mark.parametrize("fault", vars(FORMS))
def test_what_a_row_returns_or_changes_is_named_with_its_line(tmp_path: Path, fault: str) -> None:
    old, new, what = getattr(FORMS, fault)
    text = changed("regularizer", old, new)
    if fault == "half":
        text = text.replace("DenseUpdate(change *", "DenseUpdate(change.half() *")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "def apply" in one)
    with pytest.raises(InputError, match=what) as raised:
        check_regularizer(name="mine", row=row_of(tmp_path / "mine.py", "regularizer"))
    assert raised.value.where == f"{tmp_path / 'mine.py'}, line {line}"
    assert raised.value.remedy


@pytest.mark.parametrize("fault", vars(BROKEN))
def test_a_broken_rule_is_named(tmp_path: Path, fault: str) -> None:
    kind, old, new, rule = getattr(BROKEN, fault)
    text = changed(kind, old, new)
    if fault == "number":
        text = text.replace("not math.isfinite(norm)", "False")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(NotConformingError, match=rule):
        CHECKS[kind](name="mine", row=row_of(tmp_path / "mine.py", kind))
