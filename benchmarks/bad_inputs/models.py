"""Model folders that cannot be edited: config, weights, index of shards, tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.bad_inputs.case import BadInput, Make, model_copy, sweep

__all__ = ["MODELS"]

Change = Callable[[Path], object]


def _run(folder: Path, source: str = "model", **more: Any) -> list[str]:
    model = {"source": source, "dtype": "float32", "preset": "factworld", **more}
    return sweep(folder, models=[model], methods=["ft"], moments=None)


def _config(**changes: Any) -> Make:
    def make(folder: Path) -> list[str]:
        model_copy(folder, **changes)
        return _run(folder)

    return make


def _changed(change: Change) -> Make:
    def make(folder: Path) -> list[str]:
        change(model_copy(folder))
        return _run(folder)

    return make


def _file(name: str, content: str | bytes) -> Make:
    def change(model: Path) -> None:
        (model / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return _changed(change)


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Make:
    def apply(model: Path) -> None:
        path = model / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        path.unlink()
        save_file(tensors, path, metadata={"format": "pt"})

    return _changed(apply)


_DOWN = "model.layers.1.mlp.down_proj.weight"


def _index(content: object) -> Make:
    def change(model: Path) -> None:
        (model / "model.safetensors").unlink()
        (model / "model.safetensors.index.json").write_text(json.dumps(content))

    return _changed(change)


def _lora(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    (model / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/model"}')


def _loop(folder: Path) -> list[str]:
    (folder / "model").symlink_to(folder / "other")
    (folder / "other").symlink_to(folder / "model")
    return _run(folder)


def _header(size: int) -> bytes:
    return size.to_bytes(8, "little") + b"{" + b" " * 40


_MAKES: dict[str, Make] = {
    "missing": lambda folder: _run(folder, "no/such-model-folder/here"),
    "a link to itself": _loop,
    "a file": lambda folder: ((folder / "model").write_text("x"), _run(folder))[1],
    "an empty folder": lambda folder: ((folder / "model").mkdir(), _run(folder))[1],
    "no config": _changed(lambda model: (model / "config.json").unlink()),
    "no weights": _changed(lambda model: (model / "model.safetensors").unlink()),
    "an adapter": _changed(_lora),
    "config: a list": _file("config.json", "[1, 2]"),
    "config: cut off": _file("config.json", '{"model_type": "llama", '),
    "config: not UTF-8": _file("config.json", '{"model_type": "ll\xe4ma"}'.encode("latin-1")),
    "config: nested 100,000 deep": _file("config.json", "[" * 100_000),
    "config: an integer of 5,000 digits": _file(
        "config.json", '{"model_type": "llama", "vocab_size": ' + "9" * 5000 + "}"
    ),
    "config: an LFS pointer": _file("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "config: no model type": _config(model_type=None),
    "config: an unknown model type": _config(model_type="lama"),
    "config: a family that is not known": _config(model_type="bert"),
    "config: heads that do not divide": _config(num_attention_heads=7),
    "config: no heads": _config(num_attention_heads=0),
    "config: 100,000 layers": _config(num_hidden_layers=100_000),
    "config: no layers": _config(num_hidden_layers=0),
    "config: layers below zero": _config(num_hidden_layers=-4),
    "config: a width of 10^12": _config(hidden_size=10**12),
    "config: a text as a width": _config(hidden_size="wide"),
    "config: an unknown activation": _config(hidden_act="sillu"),
    "config: a kernel of the hub as attention": _config(_attn_implementation="org/repo"),
    "config: an unknown attention": _config(_attn_implementation="flashy"),
    "config: rope of an unknown kind": _config(
        rope_parameters={"rope_type": "spiral"}, rope_scaling={"rope_type": "spiral"}
    ),
    "config: code of its own": _config(
        model_type="own-model", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    ),
    "config: a vocabulary of ten": _config(vocab_size=10),
    "config: another inner width": _config(intermediate_size=80),
    "config: more layers than weights": _config(num_hidden_layers=9),
    "config: quantized": _config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "weights: an LFS pointer": _file("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "weights: empty": _file("model.safetensors", b""),
    "weights: cut off": _changed(
        lambda model: (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:5000])
    ),
    "weights: a header of 2^60 bytes": _file("model.safetensors", _header(1 << 60)),
    "weights: a header that is not JSON": _file("model.safetensors", _header(20)),
    "weights: a pickle": _changed(
        lambda model: ((model / "model.safetensors").unlink(), (model / "pytorch_model.bin").write_bytes(b"\x80\x04."))
    ),
    "weights: NaN": _weights(lambda tensors: tensors[_DOWN].__setitem__((0, 0), float("nan"))),
    "weights: infinite": _weights(lambda tensors: tensors[_DOWN].__setitem__((0, 0), float("inf"))),
    "weights: int8": _weights(lambda tensors: tensors.update({_DOWN: tensors[_DOWN].to(torch.int8)})),
    "weights: booleans": _weights(lambda tensors: tensors.update({_DOWN: tensors[_DOWN] > 0})),
    "weights: another shape": _weights(lambda tensors: tensors.update({_DOWN: tensors[_DOWN][:, :-1].contiguous()})),
    "weights: one gone": _weights(lambda tensors: tensors.pop(_DOWN)),
    "weights: transposed": _weights(lambda tensors: tensors.update({_DOWN: tensors[_DOWN].T.contiguous()})),
    "index: a list": _index(["model.safetensors"]),
    "index: no map": _index({"metadata": {}}),
    "index: a null map": _index({"weight_map": None}),
    "index: lists as files": _index({"weight_map": {_DOWN: ["a.safetensors"]}}),
    "index: a file that is gone": _index({"weight_map": {_DOWN: "gone.safetensors"}}),
    "index: a file outside": _index({"weight_map": {_DOWN: "../outside.safetensors"}}),
    "tokenizer: gone": _changed(lambda model: [path.unlink() for path in model.glob("*token*")]),
    "tokenizer: a list": _file("tokenizer.json", "[]"),
    "tokenizer: cut off": _file("tokenizer.json", '{"version": "1.0", "model": {'),
    "tokenizer: an LFS pointer": _file("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "tokenizer: nested 100,000 deep": _file("tokenizer.json", "[" * 100_000),
    "tokenizer_config: a list": _file("tokenizer_config.json", "[]"),
    "config: other heads of keys": _config(num_key_value_heads=1),
    "weights: NaN in the embeddings": _weights(
        lambda tensors: tensors["model.embed_tokens.weight"].__setitem__((0, 0), float("nan"))
    ),
    "tokenizer_config: not UTF-8": _file("tokenizer_config.json", '{"a": "\xe4"}'.encode("latin-1")),
    "generation_config: a list": _file("generation_config.json", "[1]"),
}

MODELS = [BadInput("model", name, make) for name, make in _MAKES.items()]
