"""Error feedback is formed with the keys that the history keeps, not with those the layer loop saw."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from method_parts import editor
from tiny_models import CONTEXTS, requests, tiny_model
from whole_forwards import keys_of_whole_forwards

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import WriteRule
from sphere_core.editors.closed_form.loop import ClosedFormEditor
from sphere_core.editors.shaping import Shaping
from sphere_core.locate.batch import locate
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import Update


@dataclass(frozen=True)
class Recording(Shaping):
    """A shaping that keeps what its errors are formed from."""

    seen: list[tuple[SiteWrite, torch.Tensor]] = field(default_factory=list)

    def fed_back(
        self, solved: Update, shaped: Update, write: SiteWrite, rule: WriteRule, state: EditorState
    ) -> EditorState:
        self.seen.append((write, shaped.dense() - solved.dense()))
        return super().fed_back(solved, shaped, write, rule, state)


@pytest.mark.parametrize("ridge", [None, 1.0])
def test_the_error_is_formed_with_the_keys_that_are_kept(ridge: float | None) -> None:
    model = tiny_model("llama")
    built = editor("memit_seq+rect+error_feedback", model, rect_keep=0.3, feedback_ridge=ridge)
    assert isinstance(built, ClosedFormEditor)
    recording = Recording(**built.shaping.__dict__)
    first = replace(built, shaping=recording).edit(model, requests()[:2], CONTEXTS, EditorState())
    batch = locate(model, requests()[:2], CONTEXTS)
    sites = model.open_sites((0, 1))
    for site, (write, lost) in zip(sites, recording.seen, strict=True):
        # The model now holds what was kept, so its keys are those of the history.
        assert torch.allclose(write.keys, keys_of_whole_forwards(model, batch, site), atol=1e-5)
        assert torch.equal(write.keys, first.part(f"rule/{site.layer}").tensors["columns"])
        rule = built.rules[site.layer]
        expected = rule.times_system(lost, write, EditorState()) + (ridge or 0.0) * lost
        assert torch.allclose(first.part(f"feedback/{site.layer}").tensors["error"], expected, atol=1e-10)
    # In the second layer the loop saw other keys: the first layer's update was still whole.
    unshaped = tiny_model("llama")
    whole = editor("memit_seq", unshaped).edit(unshaped, requests()[:2], CONTEXTS, EditorState())
    assert not torch.allclose(whole.part("rule/1").tensors["columns"], recording.seen[1][0].keys, atol=1e-4)
