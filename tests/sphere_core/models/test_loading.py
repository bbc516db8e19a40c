"""Finding and loading models: what is recorded, what is refused and why, and models that are spread out."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from method_parts import run
from safetensors.torch import load_file, save_file
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.foundation.errors import InputError
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.models import EditableModel, commit_of, load_model, load_skeleton, model_digest, resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def saved(folder: Path, family: str = "llama") -> Path:
    model = tiny_model(family)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_what_was_asked_for_and_tied_heads_stay_tied(tmp_path: Path, dtype: str) -> None:
    path = saved(tmp_path / "model", "qwen2")
    change_config(path, dtype="float16")
    model = load_model(str(path), dtype=dtype, device="cpu")
    assert {str(p.dtype) for p in model.network.parameters()} == {f"torch.{dtype}"}
    assert model.network.lm_head.weight is model.network.model.embed_tokens.weight
    skeleton = load_skeleton(path)
    assert [s.name for s in skeleton.open_sites([0, 2])] == [s.name for s in model.open_sites([0, 2])]


def test_a_hub_id_is_pinned_to_the_commit_that_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--made-up--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    saved(cached / "snapshots" / COMMIT)
    for revision in (None, "main", COMMIT):
        found = resolve_model("made-up/tiny", revision=revision)
        assert commit_of(found) == COMMIT
    assert commit_of(saved(tmp_path / "plain")) is None
    with pytest.raises(InputError, match="at revision 'v2'") as raised:
        resolve_model("made-up/tiny", revision="v2")
    assert "offline" in str(raised.value)
    with pytest.raises(InputError, match="'made-up/other' is neither"):
        resolve_model("made-up/other")


def test_weights_that_are_pickled_cut_or_missing_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"model.safetensors is not a whole safetensors file"):
        resolve_model(str(folder))
    name = "model.layers.1.mlp.down_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"lack 1 of the model's weights: {name}"):
        load_model(str(folder), dtype="float32", device="cpu")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(InputError, match="1 of 2 shards are missing: model-00002-of-00002"):
        resolve_model(str(folder))
    index.unlink()
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="only pickled weights") as raised:
        resolve_model(str(folder))
    assert "save_pretrained" in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "are quantised"),
        ({"model_type": "granitemoe", "num_local_experts": 4}, "is a mixture of experts"),
        ({"model_type": "mamba"}, "belongs to no known family"),
        ({"model_type": "of-tomorrow"}, r"config.json cannot be read as a model's"),
    ],
)
def test_configs_are_judged_before_a_weight_is_read(folder: Path, changes: dict[str, object], message: str) -> None:
    change_config(folder, **changes)
    # Whoever read the weights would fail on them first.
    (folder / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    for load in (lambda: load_model(str(folder), dtype="float32", device="cpu"), lambda: load_skeleton(folder)):
        with pytest.raises(InputError, match=message):
            load()


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match=r"tokenizer") as raised:
        load_model(str(folder), dtype="float32", device="cpu")
    assert str(folder) in str(raised.value)


def test_a_smaller_tokenizer_of_another_model_is_told_by_what_texts_open_or_end_with(folder: Path) -> None:
    known = len(load_skeleton(folder).tokenizer)
    change_config(folder, vocab_size=known + 100, bos_token_id=0, eos_token_id=[1, known + 7])
    with pytest.raises(InputError, match=f"eos_token_id is {known + 7}, the tokenizer knows {known} tokens"):
        load_skeleton(folder)
    # Padded vocabularies, and the defaults of a class in a config that names no such token, are no fault.
    change_config(folder, eos_token_id=known + 100)
    weights = load_file(folder / "model.safetensors")
    rows = {name: weight for name, weight in weights.items() if len(weight) == known}
    weights |= {name: torch.cat([weight, weight[:100]]) for name, weight in rows.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load_skeleton(folder)


def test_code_that_comes_with_a_model_runs_only_if_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder.parent / "modules"))
    code = "from transformers import LlamaForCausalLM\n\n\nclass OwnForCausalLM(LlamaForCausalLM):\n    pass\n"
    (folder / "modeling_own.py").write_text(code)
    change_config(folder, auto_map={"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"})
    plain = load_model(str(folder), dtype="float32", device="cpu")
    own = load_model(str(folder), dtype="float32", device="cpu", remote_code=True)
    assert [type(m.network).__name__ for m in (plain, own)] == ["LlamaForCausalLM", "OwnForCausalLM"]
    digests = {plain.base_digest, own.base_digest}
    (folder / "modeling_own.py").write_text(code + "\n# changed\n")
    assert plain.base_digest == model_digest(folder)
    assert len({*digests, model_digest(folder, remote_code=True)}) == 3


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gptj"])
def test_hooks_that_move_tensors_between_devices_change_nothing(family: str) -> None:
    plain, hooked = tiny_model(family), tiny_model(family)
    places = {name: "cpu" for name, _ in hooked.network.named_modules() if name and name.count(".") <= 2}
    dispatch_model(hooked.network, device_map=places, main_device="cpu", force_hooks=True)
    assert hasattr(hooked.layers[1], "_hf_hook")
    sites = [model.open_sites([0, 1]) for model in (plain, hooked)]
    walks = [
        BatchWalk(model, locate(model, requests(), CONTEXTS), own)
        for model, own in zip((plain, hooked), sites, strict=True)
    ]
    assert torch.equal(walks[0].keys(sites[0][1]), walks[1].keys(sites[1][1]))
    one, other = run("memit", plain, count=2)[0], run("memit", hooked, count=2)[0]
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


METHODS = pytest.mark.parametrize("method", ["alphaedit+sphere", "r_rome", "ft", "ultraedit", "nse"])


def same_edits(method: str, split: EditableModel, whole: EditableModel) -> None:
    assert len({parameter.device for parameter in split.network.parameters()}) == 2
    base = {site.name: whole.base_weight(site).clone() for site in whole.open_sites((0, 1))}
    one, other = run(method, split, count=2)[0].weights, run(method, whole, count=2)[0].weights
    for name, weight in one.items():
        moved = (other[name].cpu() - base[name]).norm()
        # Two kinds of processor sum in different orders, and Adam's first steps magnify that.
        assert float((weight.cpu() - other[name].cpu()).norm()) <= 2e-2 * float(moved)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("family", ["llama", "gemma2", "gptj"])
@METHODS
def test_a_model_split_between_processor_and_accelerator_is_edited_like_a_whole_one(family: str, method: str) -> None:
    model = tiny_model(family)
    device = torch.accelerator.current_accelerator()
    layers = model.family.layers
    names = [name for name, _ in model.network.named_modules() if name.count(".") <= 2]
    places = {name: "cpu" for name in names if name.startswith(f"{layers}.0") or "embed" in name or "wte" in name}
    places |= {name: device for name in names if name and name not in places and name.count(".") >= 1}
    places |= {model.family.head: places["transformer.wte" if family == "gptj" else "model.embed_tokens"]}
    places = {name: place for name, place in places.items() if name != layers}
    dispatch_model(model.network, device_map=places, main_device="cpu", force_hooks=True)
    same_edits(method, model, tiny_model(family))


@pytest.mark.skipif(torch.accelerator.device_count() < 2, reason="needs two accelerators")
@pytest.mark.parametrize("family", ["llama", "gemma2", "gptj"])
@METHODS
def test_a_model_split_over_two_accelerators_is_edited_like_a_whole_one(
    tmp_path: Path, family: str, method: str
) -> None:
    path = saved(tmp_path / "model", family)
    same_edits(method, load_model(str(path), dtype="float32", device="split"), tiny_model(family))
