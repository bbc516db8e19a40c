"""What a trajectory costs, predicted: against real models, real files, and the sweeps that ship."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from repository import EXAMPLES
from sweep_files import tiny, write_sweep
from tiny_models import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import AutoConfig

from sphere_core.checkpoints import EditorState
from sphere_core.costs import (
    ModelShape,
    TextLengths,
    Work,
    Workload,
    accelerator,
    checkpoint_bytes,
    edit_work,
    hours,
    on_accelerator,
    published_config,
    shape_of_config,
    shape_of_network,
    stages,
    workload_of,
)
from sphere_core.costs.time import moments_work
from sphere_core.datasets.factworld.corpus import corpus_sentences
from sphere_core.datasets.factworld.shipped import shipped_model_dir, shipped_world
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import preset
from sphere_core.methods import resolve_method
from sphere_core.models import load_model
from sphere_core.moments.build import build_second_moments
from sphere_core.moments.packing import Amount, Packing, Pass
from sphere_core.streams.stream import StreamSpec, load_stream
from workflows.preflight.price import price_sweep
from workflows.sweeps.reading import read_sweep

LENGTHS = TextLengths(prompt=18, target=2, probe_rows=26)


def llama3() -> ModelShape:
    config = published_config("meta-llama/Meta-Llama-3-8B-Instruct")
    assert config is not None
    return shape_of_config(config, where="test")


def test_a_search_over_whole_rows_costs_their_first_halves_too() -> None:
    config = tiny_config("qwen3_5_text")
    assert shape_of_config(config, where="test").whole_rows
    assert not llama3().whole_rows
    values, work = preset("llama3-8b", "memit", ()), workload("memit")
    halves, whole = (edit_work(replace(llama3(), whole_rows=whole), work, values, 100).model for whole in (False, True))
    steps = 100 * int(values.v_num_grad_steps or 0) * 2 * work.rows * (work.prompt_tokens - work.prompt_tokens // 2)
    assert whole - halves == pytest.approx(steps * 2 * (31 - work.target_layer) * llama3().layer_parameters)


def workload(name: str, *, edits: int = 3000, pass_size: int = 32, batch: int = 100) -> Workload:
    method = resolve_method(name)
    values = preset("llama3-8b", method.editor_name, method.regularizer_names, {"requests_per_pass": pass_size})
    return workload_of(
        method,
        values,
        dtype_bytes=2,
        batch=batch,
        edits=edits,
        contexts=6,
        lengths=LENGTHS,
        on_accelerator=True,
    )


def test_a_config_tells_the_shape_of_the_loaded_model() -> None:
    model = load_model("factworld", dtype="float32", device="cpu")
    config = AutoConfig.from_pretrained(shipped_model_dir())
    shape = shape_of_config(config, where="test")
    assert shape == shape_of_network(model.network, model.family)
    assert shape.parameters == sum(parameter.numel() for parameter in model.network.parameters())
    (site,) = model.open_sites((0,))
    assert (shape.d_out, shape.d_in) == (site.d_out, site.d_in)


def test_published_sizes() -> None:
    shape = llama3()
    assert shape.parameters == pytest.approx(8.03e9, rel=1e-3)
    assert (shape.layers, shape.d_out, shape.d_in) == (32, 4096, 14336)


def test_a_checkpoint_weighs_what_the_keys_or_their_gram_matrix_weigh() -> None:
    shape, memit, alphaedit = llama3(), workload("memit"), workload("alphaedit", edits=20000)
    weights = 5 * 4 * 4096 * 14336
    assert checkpoint_bytes(shape, memit, 3000) == weights
    assert checkpoint_bytes(shape, alphaedit, 1000) == weights + 5 * (4 * 14336 * 1000 + 4 * 1000 * 1001)
    assert checkpoint_bytes(shape, alphaedit, 20000) == weights + 5 * 4 * 14336 * 14337


def test_a_memory_weighs_what_it_stores_and_trains_behind_its_layer() -> None:
    shape, matrix = llama3(), 4 * 4096 * 14336
    assert checkpoint_bytes(shape, workload("memoir"), 1000) == matrix + 1000 * 14336 / 8
    assert checkpoint_bytes(shape, workload("grace"), 1000) == 4 * 1000 * (14336 + 4096)
    # Two merges of a thousand edits, and one memory that is open.
    assert checkpoint_bytes(shape, workload("wise"), 2001) == 3 * matrix
    values = preset("llama3-8b", "memoir", ())
    late, early = (
        edit_work(shape, replace(workload("memoir"), last_layer=layer), values, 100).model for layer in (27, 0)
    )
    # 30 steps of 6 rows, forward and backward, through 27 more layers.
    tokens = 100 * 6 * (LENGTHS.prompt + LENGTHS.target)
    assert early - late == pytest.approx(tokens * 30 * 3 * 2 * 27 * shape.layer_parameters)


def test_memory_and_work_follow_what_is_asked() -> None:
    shape = llama3()
    wide = {stage.name: stage.accelerator for stage in stages(shape, workload("memit"))}
    narrow = {stage.name: stage.accelerator for stage in stages(shape, workload("memit", pass_size=4))}
    assert wide["targets"] > narrow["targets"] > wide["load"] == 2 * shape.parameters
    tuned = {stage.name for stage in stages(shape, workload("ft"))}
    assert not tuned & {"second moments", "targets"}
    values = preset("llama3-8b", "memit", ())
    once = edit_work(shape, workload("memit", edits=1000), values, 1000)
    twice = edit_work(shape, workload("memit", edits=2000), values, 2000)
    assert twice.model == pytest.approx(2 * once.model)
    device = accelerator("h100")
    assert hours(Work(model=device.bf16 * 3600), device) == pytest.approx(1 / 0.3)
    with pytest.raises(InputError, match="h100"):
        accelerator("h1000")


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_example_is_priced_without_its_model(example: str) -> None:
    spec, _ = read_sweep(EXAMPLES / example)
    price = price_sweep(spec, EXAMPLES, accelerator("h100"))
    # Fine-tunings of their checkpoints are cells of their own.
    edited = [cell for cell in price.cells if cell.edit_seconds_each is not None]
    assert len(edited) == len(spec.models) * len(spec.streams) * len(spec.methods)
    assert price.hours > 0
    # Second moments are shared; an example of which no row requires them has none.
    without = ("truncate", "perturb", "unedited", "neurons")
    has_moments = any(resolve_method(method.name).editor_name not in without for method in spec.methods)
    shared = price.disk - sum(cell.disk_bytes for cell in price.cells)
    assert shared > 0 if has_moments else shared == 0


def test_one_gpu_fits_its_gpu() -> None:
    spec, _ = read_sweep(EXAMPLES / "one_gpu.yaml")
    device = accelerator("rtx4090")
    assert all(cell.accelerator_bytes < device.memory for cell in price_sweep(spec, EXAMPLES, device).cells)


def test_a_model_that_is_nowhere_is_named(tmp_path: Path) -> None:
    source = {"source": "nobody/has-this", "dtype": "float32", "preset": "gpt2-xl"}
    spec, _ = read_sweep(write_sweep(tmp_path, tiny(models=[source])))
    with pytest.raises(InputError, match="nobody/has-this"):
        price_sweep(spec, tmp_path, accelerator("h100"))


def test_an_accelerator_takes_solvers_and_requests_by_its_whole_memory() -> None:
    shape = shape_of_config(published_config("meta-llama/Meta-Llama-3-8B-Instruct"), where="test")
    layers = (4, 5, 6, 7, 8)
    placed = {
        memory: on_accelerator(shape, workload("alphaedit+sphere", batch=100), layers, memory * 1e9)
        for memory in (80, 48, 24)
    }
    assert {memory: work.host_sites for memory, work in placed.items()} == {80: 0, 48: 0, 24: 4}
    assert placed[80].requests_per_pass == 100
    assert 1 <= placed[24].requests_per_pass < placed[48].requests_per_pass <= 100
    few = replace(workload("alphaedit+sphere", batch=100), requests_per_pass=7)
    assert on_accelerator(shape, few, layers, 80e9).requests_per_pass == 7
    # MEMIT's factors of 14336 are 1.6 GB each, and 8 GB beside the weights are little more than a batch requires.
    memit = on_accelerator(shape, workload("memit", batch=100), layers, 24e9)
    assert memit.host_sites == 5
    assert all(stage.accelerator < 24e9 for stage in stages(shape, memit))
    peaks = {stage.name: stage for stage in stages(shape, placed[80])}
    assert peaks["targets"].accelerator < 80e9
    moved = {stage.name: stage for stage in stages(shape, replace(placed[80], host_sites=5))}
    assert moved["targets"].accelerator < peaks["targets"].accelerator
    assert moved["targets"].host > peaks["targets"].host


class Counter(TorchDispatchMode):
    """Counts the floating-point operations of matrix products; torch's own counter fails on gradients of leaves."""

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.total += 0 if count is None else count(*args, **(kwargs or {}), out_val=out)
        return out


def counted(work: Callable[[], object]) -> float:
    """The floating-point operations of the products that run."""
    with Counter() as counter:
        work()
    return counter.total


@pytest.mark.parametrize("gradients", [False, True])
def test_a_pass_of_second_moments_costs_what_it_runs(gradients: bool) -> None:
    model = load_model("factworld", dtype="float32", device="cpu")
    shape, texts = shape_of_network(model.network, model.family), list(islice(corpus_sentences(shipped_world(), 0), 40))
    work = Pass((1,), Packing(64), Amount(texts=len(texts)), gradients)
    tokens = sum(len(model.tokenizer(text)["input_ids"]) for text in texts)
    found = counted(lambda: build_second_moments(model, work, texts, provenance={}))
    said = moments_work(shape, 1, 1, tokens, first_layer=1, gradients=gradients)
    # Padding, and attention's own products, are not in the estimate.
    assert 0.8 < said.model / found < 1.1


def test_an_edit_through_a_filter_costs_what_it_runs() -> None:
    model = load_model("factworld", dtype="float32", device="cpu")
    shape, steps, batch = shape_of_network(model.network, model.family), 3, 4
    method = resolve_method("crispedit")
    values = method.from_preset("factworld", {"num_steps": steps, "batch_size": batch, "ft_stop_loss": 0.0})
    texts = Pass(values.layers, Packing(64), Amount(texts=40), gradients=True)
    moments = build_second_moments(model, texts, list(islice(corpus_sentences(shipped_world(), 0), 40)), provenance={})
    requests = load_stream(StreamSpec(dataset="factworld", edits=batch), 0)
    editor = method.build(values, moments)
    found = counted(lambda: editor.edit(model, requests, (("{}",),), EditorState()))
    prompts = [len(model.tokenizer(one.question)["input_ids"]) for one in requests]
    lengths = TextLengths(prompt=sum(prompts) // batch, target=1, probe_rows=1)
    filtered, plain = (
        edit_work(
            shape,
            replace(
                workload_of(
                    method,
                    values,
                    dtype_bytes=4,
                    batch=batch,
                    edits=batch,
                    contexts=1,
                    lengths=lengths,
                    on_accelerator=False,
                ),
                **changes,
            ),
            values,
            batch,
        )
        for changes in ({}, {"filtered_steps": 0})
    )
    # Decompositions are not counted by torch.
    assert 0.6 < (filtered.model + filtered.float64) / found < 1.6
    assert filtered.model > plain.model
    assert filtered.eigen > plain.eigen == 0


def test_gradient_moments_are_priced_with_their_backward(tmp_path: Path) -> None:
    prices = {}
    for name in ("memit", "crispedit"):
        spec, _ = read_sweep(write_sweep(tmp_path / name, tiny(methods=[name])))
        prices[name] = price_sweep(spec, tmp_path / name, accelerator("h100"))
    assert prices["crispedit"].shared_hours > prices["memit"].shared_hours
    # One [o, o] beside [d, d] for each of the layers.
    assert prices["crispedit"].shared_disk > 0
    (cell,) = prices["crispedit"].cells
    assert cell.edit_seconds_each == pytest.approx(3600 * cell.edit_hours / (cell.trajectories * 6))
