"""What a trajectory costs, predicted: against real models, real files, and the sweeps that ship."""

from dataclasses import replace
from pathlib import Path

import pytest
from repository import EXAMPLES
from sweep_files import tiny, write_sweep
from transformers import AutoConfig

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
from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import preset
from sphere_core.methods import resolve_method
from sphere_core.models import load_model
from workflows.preflight.price import price_sweep
from workflows.sweeps.reading import read_sweep

LENGTHS = TextLengths(prompt=18, target=2, probe_rows=26)


def llama3() -> ModelShape:
    config = published_config("meta-llama/Meta-Llama-3-8B-Instruct")
    assert config is not None
    return shape_of_config(config, where="test")


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
    assert len(price.cells) == len(spec.models) * len(spec.streams) * len(spec.methods)
    assert price.hours > 0
    # Second moments are shared; an example of which no row requires them has none.
    has_moments = any(
        resolve_method(method.name).editor_name not in ("truncate", "perturb", "unedited") for method in spec.methods
    )
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
