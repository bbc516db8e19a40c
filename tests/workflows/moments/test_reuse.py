"""A sweep's second moments are taken from what was built before, if and only if the bits are the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import sphere
from sweep_files import tiny, write_sweep

from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model
from sphere_core.moments.files import write_moments
from sphere_core.moments.packing import Amount
from sphere_core.moments.record import SecondMoments
from workflows.moments.build import build_alone
from workflows.moments.reuse import built_before
from workflows.moments.work import recipe_work
from workflows.sweeps.expand import load_sweep


def test_a_sweep_takes_equal_moments_from_the_store_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPHERE_MOMENTS", str(tmp_path / "store"))
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"Text {number} tells of town {number % 7}." for number in range(500)), encoding="utf-8")
    built_here = ("moments", "build", "factworld", "--layers", "0,1", "--max-tokens", 32)
    assert sphere(monkeypatch, *built_here, "--corpus", texts, "--tokens", 3000) == 0
    spec = load_sweep(
        write_sweep(
            tmp_path,
            tiny(
                methods=["memit"],
                seeds=[0],
                moments={"corpus": str(texts), "tokens": 3000, "max_tokens_per_text": 32},
            ),
        )
    )
    (recipe,) = spec.plan.recipes
    work = recipe_work(recipe, spec.specs[recipe.trajectory], device="cpu")
    root = Storage(tmp_path / "root")
    taken = built_before(work, root)
    assert taken is not None
    assert taken.layers == [0, 1]
    model = load_model("factworld", dtype="float32", device=torch.device("cpu"))
    built: list[SecondMoments] = []
    build_alone(work, model, root, publish=built.append, on_progress=lambda _: None)
    assert taken.digest == built[0].digest
    assert (taken.count, taken.provenance["sites"]) == (built[0].count, built[0].provenance["sites"])
    # Of this root's own files, those of other layers serve too.
    root.write_file("moments/other.safetensors", lambda path: write_moments(built[0], path))
    one = replace(work, work=replace(work.work, layers=(1,)))
    nowhere = str(tmp_path / "nowhere")
    assert getattr(built_before(one, root, nowhere), "layers", None) == [1]
    for other in (
        replace(work, processor="cpu, 2 threads"),
        replace(work, work=replace(work.work, layers=(0, 2))),
        replace(work, work=replace(work.work, amount=Amount(tokens=2999))),
        replace(work, model=replace(work.model, dtype="bfloat16")),
    ):
        assert built_before(other, root) is None
    damaged = tmp_path / "root" / "moments" / "other.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"123456789")
    assert built_before(one, root, nowhere) is None
