"""Parts that do not belong together: models, moments, templates, plugins, task files, places for output."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.bad_inputs.case import GOLDEN, TINY_MODEL, BadInput, Make, model_copy, sweep

__all__ = ["MISFITS"]


def _run(folder: Path) -> list[str]:
    model = {"source": "model", "dtype": "float32", "preset": "factworld"}
    return sweep(folder, models=[model], methods=["ft"], moments=None)


def _missing_shard(folder: Path) -> list[str]:
    model = model_copy(folder)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    half = {name: tensors[name] for name in names[: len(names) // 2]}
    save_file(half, model / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    places = {name: f"model-0000{1 + (name not in half)}-of-00002.safetensors" for name in names}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return _run(folder)


def _other_vocabulary(folder: Path) -> list[str]:
    model = model_copy(folder)
    told = json.loads((model / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    told["model"]["vocab"] = {token: place + 100_000 for token, place in vocabulary.items()}
    (model / "tokenizer.json").write_text(json.dumps(told))
    return _run(folder)


def _shard_of_another(folder: Path) -> list[str]:
    model = model_copy(folder)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    save_file({f"transformer.h.{n}": t for n, t in enumerate(tensors.values())}, model / "model.safetensors")
    return _run(folder)


def _config_of(folder: Path, **config: Any) -> list[str]:
    model_copy(folder, **config)
    return _run(folder)


def _no_tokenizer(folder: Path) -> list[str]:
    model = model_copy(folder)
    for name in os.listdir(model):
        if "token" in name or "vocab" in name or "merges" in name:
            (model / name).unlink()
    return _run(folder)


_MODELS: dict[str, Make] = {
    "a missing shard": _missing_shard,
    "a tokenizer with another vocabulary": _other_vocabulary,
    "no tokenizer": _no_tokenizer,
    "weights of another family": _shard_of_another,
    "the config of another family": lambda folder: _config_of(
        folder, model_type="gpt2", architectures=["GPT2LMHeadModel"]
    ),
    "the config of an encoder": lambda folder: _config_of(folder, model_type="bert", architectures=["BertModel"]),
    "a model with a text and a vision part": lambda folder: _config_of(
        folder, model_type="llava", architectures=["LlavaForConditionalGeneration"]
    ),
    "quantized weights": lambda folder: _config_of(
        folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    ),
    "more layers than weights": lambda folder: _config_of(folder, num_hidden_layers=9),
    "a hidden size that is a text": lambda folder: _config_of(folder, hidden_size="64"),
}

_MEMIT = {
    **{"layers": [0, 1], "v_lr": 0.1, "v_num_grad_steps": 3, "v_weight_decay": 0.001, "clamp_norm_factor": 2.0},
    **{"kl_factor": 0.0625, "mom2_update_weight": 200, "v_loss_layer": 3, "fact_token": "subject_last"},
}


def _edit(folder: Path, **options: str) -> list[str]:
    (folder / "memit.json").write_text(json.dumps(_MEMIT))
    given = {
        **{"model": str(TINY_MODEL), "requests": str(GOLDEN / "requests.json"), "method": "memit"},
        **{"hparams": "memit.json", "moments": str(GOLDEN / "stats_llama.npz"), "batch-size": "8", "out": "root"},
        **options,
    }
    return ["edit", *(part for name, value in given.items() for part in (f"--{name}", value))]


def _other_moments(folder: Path) -> list[str]:
    np.savez(folder / "moments.npz", layer0=np.eye(96), layer1=np.eye(96), count=np.array(10))
    return _edit(folder, moments="moments.npz")


def _moments_of_another_model(folder: Path) -> list[str]:
    header = {"provenance": {"model_digest": "0" * 64, "dtype": "float32"}, "count": 10}
    tensors = {"layer0": torch.eye(64), "layer1": torch.eye(64)}
    save_file(tensors, folder / "moments.safetensors", metadata={"moments": json.dumps(header)})
    return _edit(folder, moments="moments.safetensors")


def _templates(content: object) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "contexts.json").write_text(json.dumps(content))
        return sweep(folder, contexts={"file": "contexts.json"})

    return make


def _plugin(text: str) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "own.py").write_text(text)
        return sweep(folder, plugins=["own.py"], methods=["memit+own"])

    return make


def _not_writable(folder: Path) -> list[str]:
    (folder / "root").write_text("")
    return sweep(folder)


def _dangling(folder: Path) -> list[str]:
    (folder / "root").symlink_to(folder / "gone" / "deep")
    (folder / "gone").write_text("")
    return sweep(folder)


_PARTS: dict[str, dict[str, Make]] = {
    "moments": {
        "of a wider model": _other_moments,
        "of another model by digest": _moments_of_another_model,
    },
    "template": {
        "without a place": _templates([["{}"], ["The story so far."]]),
        "with a number": _templates([["{}"], [3]]),
        "with null": _templates([["{}"], None]),
        "with two places": _templates([["{}"], ["{} and {}"]]),
        "as an object": _templates({"0": ["{}"]}),
    },
    "plugin": {
        "raises at import": _plugin("raise RuntimeError('at import')\n"),
        "leaves at import": _plugin("import sys\nsys.exit(0)\n"),
        "is not Python": _plugin("def broken(:\n"),
        "defines no row": _plugin("x = 1\n"),
        "has rows of another kind": _plugin("REGULARIZERS = {'own': 3}\n"),
        "has rows in a list": _plugin("REGULARIZERS = ['own']\n"),
        "imports what is gone": _plugin("import no_such_module_here\n"),
        "calls itself": _plugin("def f():\n    return f()\nf()\n"),
        "is a folder": lambda folder: (
            (folder / "own.py").mkdir(),
            sweep(folder, plugins=["own.py"], methods=["memit+own"]),
        )[1],
        "is not UTF-8": lambda folder: (
            (folder / "own.py").write_bytes(b"# caf\xe9\n"),
            sweep(folder, plugins=["own.py"], methods=["memit+own"]),
        )[1],
    },
    "output": {
        "run: a root that is a file": _not_writable,
        "run: a root that is a link below a file": _dangling,
        "edit: a root that is a device": lambda folder: _edit(folder, out="/dev/null"),
        "edit: a full device": lambda folder: _edit(folder, out="/dev/full/root"),
        "run: a root with a NUL": lambda folder: [*sweep(folder)[:-1], "s3://user:secret@bucket/root"],
        "run: a root of an unknown storage": lambda folder: [*sweep(folder)[:-1], "nfs3://host/root"],
        "submit: a relative root": lambda folder: ["submit", sweep(folder)[1], "--root", "runs/here"],
        "submit: a key under a path": lambda folder: (
            (folder / "id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
            sweep(folder, streams=[{"dataset": "facts", "path": "id_rsa", "edits": 1}]),
            ["submit", "sweep.yaml", "--root", "/mnt/x", "--address", "http://127.0.0.1:9"],
        )[2],
        "submit: data above the sweep": lambda folder: (
            (folder / "in").mkdir(),
            (folder / "facts.json").write_text("[]"),
            sweep(folder / "in", streams=[{"dataset": "facts", "path": "../facts.json", "edits": 1}]),
            ["submit", "in/sweep.yaml", "--root", "/mnt/x", "--address", "http://127.0.0.1:9"],
        )[3],
        "retention: an unknown protocol with a quote": lambda folder: [
            "retention",
            "gone",
            "curve",
            "--protocol",
            "it's",
        ],
    },
}

_TASK = """\
task: own
dataset_path: json
dataset_kwargs: {data_files: {test: own.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: TEXT
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
"""


def _task(text: str, **files: str) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "tasks").mkdir()
        (folder / "tasks" / "own.yaml").write_text(text)
        (folder / "tasks" / "own.jsonl").write_text('{"q": "a", "a": "b"}\n')
        for name, content in files.items():
            (folder / "tasks" / f"{name}.py").write_text(content)
        return sweep(folder, evaluators={"general": {"tasks": ["tasks/own.yaml"]}})

    return make


def _template(text: str) -> Make:
    return _task(_TASK.replace("TEXT", json.dumps(text)))


_PARTS["task"] = {
    "a command in a template": _template("{{ cycler.__init__.__globals__.os.popen('touch PWNED').read() }}"),
    "an endless loop in a template": _template(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "a huge text in a template": _template("{{ q * 10 ** 11 }}"),
    "a pattern without an end": _template("{{ ('a' * 60 ~ 'b')|regex_replace('(a|a|aa)+$', 'x') ~ 1 // 0 }}"),
    "a function": _task(
        _TASK.replace("TEXT", "!function own.text"), own="open('PWNED', 'w')\ndef text(d): return ''\n"
    ),
    "a function of the library": _task(_TASK.replace("TEXT", "!function os.system")),
    "a metric that is a script": _task(
        _TASK.replace("TEXT", '"{{q}}"').replace("metric: acc", "metric: ./tasks/own, hf_evaluate: true"), own="1 / 0\n"
    ),
    "a hundred thousand brackets": _task("task: own\ndoc_to_text: " + "[" * 100_000),
    "an alias that contains itself": _task(_TASK.replace("TEXT", "&a [*a]")),
    "a template that is too deep": _template("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"),
}

MISFITS = [
    BadInput(kind, name, make) for kind, makes in [("model", _MODELS), *_PARTS.items()] for name, make in makes.items()
]
