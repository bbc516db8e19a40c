"""Hyperparameter files, presets, second moments and places for outputs."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.bad_inputs.case import GOLDEN, TINY_MODEL, BadInput, Make, sweep

__all__ = ["SETTINGS"]

_MEMIT: dict[str, Any] = {
    **{"layers": [0, 1], "v_lr": 0.1, "v_num_grad_steps": 3, "v_weight_decay": 0.001, "clamp_norm_factor": 2.0},
    **{"kl_factor": 0.0625, "mom2_update_weight": 200, "v_loss_layer": 3, "fact_token": "subject_last"},
}
_WIDTH = 64


def _edit(folder: Path, *, hparams: str = "memit.json", moments: str | None = None, method: str = "memit") -> list[str]:
    if not (folder / hparams).exists():
        (folder / hparams).write_text(json.dumps(_MEMIT))
    return [
        *("edit", "--model", str(TINY_MODEL), "--requests", str(GOLDEN / "requests.json"), "--method", method),
        *("--hparams", hparams, "--moments", moments or str(GOLDEN / "stats_llama.npz"), "--batch-size", "8"),
        *("--out", "root"),
    ]


def _text(text: str | bytes, name: str = "memit.json", method: str = "memit") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return _edit(folder, hparams=name, method=method)

    return make


def _values(method: str = "memit", **changes: Any) -> Make:
    merged = {**_MEMIT, **changes}
    return _text(json.dumps({key: value for key, value in merged.items() if value != "gone"}), method=method)


def _preset(text: str) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "own.yaml").write_text(text)
        return sweep(folder, models=[{"source": "factworld", "dtype": "float32", "preset": "own.yaml"}])

    return make


def _npz(**arrays: Any) -> Make:
    def make(folder: Path) -> list[str]:
        np.savez(folder / "moments.npz", **arrays)
        return _edit(folder, moments="moments.npz")

    return make


def _moments(change: Callable[[dict[str, np.ndarray]], None], method: str = "memit", **hyper: Any) -> Make:
    def make(folder: Path) -> list[str]:
        with np.load(GOLDEN / "stats_llama.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
        change(arrays)
        np.savez(folder / "moments.npz", **arrays)
        (folder / "memit.json").write_text(json.dumps({**_MEMIT, **hyper}))
        return _edit(folder, moments="moments.npz", method=method)

    return make


def _moments_bytes(content: bytes, name: str = "moments.npz") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return _edit(folder, moments=name)

    return make


def _tensors(header: object, **tensors: torch.Tensor) -> Make:
    def make(folder: Path) -> list[str]:
        meta = {"moments": header if isinstance(header, str) else json.dumps(header)}
        save_file(tensors or {"layer0": torch.eye(_WIDTH)}, folder / "moments.safetensors", metadata=meta)
        return _edit(folder, moments="moments.safetensors")

    return make


def _promise() -> bytes:
    """A safetensors file whose header promises 32 GiB."""
    header = json.dumps(
        {"layer0": {"dtype": "F64", "shape": [1 << 16, 1 << 16], "data_offsets": [0, 1 << 35]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 64


def _finished(folder: Path) -> Path:
    """A root that `table` can read: a plan without results."""
    (folder / "plan.json").write_text(json.dumps({"name": "bad", "trajectories": [], "bases": [], "recipes": []}))
    return folder


def _read_only(folder: Path, *arguments: str) -> list[str]:
    return [arguments[0], str(_finished(folder)), *arguments[1:]]


_HYPERPARAMETERS: dict[str, Make] = {
    "missing": lambda folder: [*_edit(folder)[:8], "none.json", *_edit(folder)[9:]],
    "empty": _text(""),
    "a list": _text("[1]"),
    "not JSON": _text('{"layers": [0],}'),
    "not YAML": _text("layers: [0\nv_lr: 1\n", name="memit.yaml"),
    "not UTF-8": _text('{"model_name": "H\xe4rbel"}'.encode("latin-1")),
    "nested 100,000 deep": _text('{"a":' * 100_000),
    "an integer of 5,000 digits": _text('{"layers": [' + "9" * 5000 + "]}"),
    "a cycle in YAML": _text("layers: &a [*a]\n", name="memit.yaml"),
    "a key given twice": _text('{"layers": [0], "layers": [1]}'),
    "an LFS pointer": _text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "infinity": _values(v_lr=float("inf")),
    "not a number": _values(v_lr=float("nan")),
    "absurd": _values(mom2_update_weight=1e300),
    "below zero": _values(v_lr=-1),
    "steps without end": _values(v_num_grad_steps=10**15),
    "booleans": _values(layers=[True], v_num_grad_steps=True),
    "layers as a text": _values(layers="0,1"),
    "no layers": _values(layers=[]),
    "layers twice": _values(layers=[1, 1]),
    "a layer below zero": _values(layers=[-1]),
    "a layer that is not there": _values(layers=[40]),
    "another loss layer": _values(v_loss_layer=31),
    "another module": _values(rewrite_module_tmp="transformer.h.{}.mlp.c_proj"),
    "a key gone": _values(v_lr="gone", kl_factor="gone"),
    "an unknown key": _values(v_lrr=1),
    "a key of another method": _values(nse_alhpa=1),
    "a key that changes the method": _values(method="rome", bias_update=True),
    "another token": _values(fact_token="last"),
    "EasyEdit's up projections": _text(
        json.dumps({"inner_params": ["model.layers.1.mlp.up_proj"], "lr": 1e-6}), method="ultraedit"
    ),
}
_PRESETS: dict[str, Make] = {
    "not YAML": _preset("sources: [\n"),
    "a list": _preset("- 1\n"),
    "without sections": _preset("shared: {}\n"),
    "values without a source": _preset("sources: {}\nshared: {layers: [0]}\neditors: {memit: {}}\n"),
    "sections that are lists": _preset("sources: {}\nshared: {}\neditors: {memit: [1]}\n"),
    "a number as a source": _preset("sources: {}\nshared: {v_lr: {value: 1, source: 3}}\neditors: {memit: {}}\n"),
    "another editor": _preset("sources: {}\nshared: {}\neditors: {rome: {}}\n"),
    "billion laughs": _preset(
        "a: &a [1,1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1 or ''},*a{n - 1 or ''}]\n" for n in range(1, 40))
    ),
}
_MOMENTS: dict[str, Make] = {
    "missing": lambda folder: _edit(folder, moments="none.npz"),
    "a text": _moments_bytes(b"not an archive"),
    "empty": _moments_bytes(b""),
    "an LFS pointer": _moments_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "no layer": _npz(other=np.eye(4)),
    "a layer gone": _npz(layer0=np.eye(_WIDTH)),
    "not square": _npz(layer0=np.ones((_WIDTH, 3)), layer1=np.eye(_WIDTH)),
    "three dimensions": _npz(layer0=np.ones((2, 2, 2)), layer1=np.eye(_WIDTH)),
    "another width": _npz(layer0=np.eye(7), layer1=np.eye(7)),
    "texts": _npz(layer0=np.array([["a", "b"], ["c", "d"]])),
    "dates": _npz(layer0=np.zeros((2, 2), dtype="datetime64[s]")),
    "objects": _npz(layer0=np.array([[None, 1], [2, 3]], dtype=object)),
    "long doubles": _npz(layer0=np.eye(_WIDTH, dtype=np.longdouble), layer1=np.eye(_WIDTH)),
    "complex": _moments(lambda arrays: arrays.update(layer0=arrays["layer0"] * (1 + 1j))),
    "booleans": _moments(lambda arrays: arrays.update(layer0=arrays["layer0"] > 0)),
    "whole numbers": _moments(lambda arrays: arrays.update(layer0=arrays["layer0"].astype(np.int64))),
    "a count of two numbers": _moments(lambda arrays: arrays.update(count=np.array([1, 2]))),
    "not a number": _moments(lambda arrays: arrays["layer0"].__setitem__((0, 0), np.nan)),
    "infinite": _moments(lambda arrays: arrays["layer0"].__setitem__((0, 0), np.inf)),
    "zero": _moments(lambda arrays: arrays.update(layer0=arrays["layer0"] * 0)),
    "zero, in a null space": _moments(
        lambda arrays: arrays.update(layer0=arrays["layer0"] * 0), method="alphaedit", L2=10, nullspace_threshold=0.02
    ),
    "not symmetric": _moments(lambda arrays: arrays["layer0"].__setitem__((0, 1), 1e3)),
    "below zero": _moments(lambda arrays: arrays.update(layer0=-arrays["layer0"])),
    "safetensors: a list as header": _tensors([1]),
    "safetensors: a header that is not JSON": _tensors("{"),
    "safetensors: a count that is a text": _tensors({"count": "many"}),
    "safetensors: a digest that is a number": _tensors({"provenance": {"model_digest": 7}, "count": 1}),
    "safetensors: a null space without a complement": _tensors({"count": 1}, nullspace0=torch.eye(4)),
    "safetensors: 32 GiB promised": _moments_bytes(_promise(), "moments.safetensors"),
    "safetensors: a web page": _moments_bytes(b"<!doctype html><html></html>", "moments.safetensors"),
}
_OUTPUTS: dict[str, Make] = {
    "table: a folder": lambda folder: ((folder / "out.csv").mkdir(), _read_only(folder, "table", "--out", "out.csv"))[
        1
    ],
    "table: a folder that is gone": lambda folder: _read_only(folder, "table", "--out", "no/such/out.csv"),
    "table: a full device": lambda folder: _read_only(folder, "table", "--format", "csv", "--out", "/dev/full"),
    "table: below a file": lambda folder: (
        (folder / "f").write_text(""),
        _read_only(folder, "table", "--out", "f/x.csv"),
    )[1],
    "table: an unknown suffix": lambda folder: _read_only(folder, "table", "--out", "out.xyzw"),
    "table: a root that is none": lambda folder: ["table", "nothing"],
    "verify: a root that is none": lambda folder: ["verify", "nothing"],
    "report: a folder": lambda folder: _read_only(folder, "report", "--out", "."),
    "report: a device": lambda folder: _read_only(folder, "report", "--out", "/dev/null"),
    "a name of 300 characters": lambda folder: (sweep(folder), ["plan", "sweep.yaml", "--root", "n" * 300])[1],
    "a root in a file system without folders of ours": lambda folder: [*sweep(folder)[:-1], "/proc/nothing"],
    "a root that does not answer": lambda folder: ["status", "ftp://no.such.host.invalid/x"],
    "status: a root that is a file": lambda folder: ((folder / "f").write_text(""), ["status", "f"])[1],
    "status: a plan that is cut off": lambda folder: (
        (folder / "plan.json").write_text('{"name": "b'),
        ["status", "."],
    )[1],
    "status: a plan of another kind": lambda folder: ((folder / "plan.json").write_text("[1]"), ["status", "."])[1],
    "export: from nothing": lambda folder: ["export", "nothing", "--to", "out"],
    "edit: below a file": lambda folder: [*_with_file(folder)],
    "run: below a file": lambda folder: [*_root_below_file(folder)],
    "doctor: a dtype that is none": lambda folder: [
        "doctor",
        "factworld",
        "--preset",
        "factworld",
        "--dtype",
        "float7",
    ],
    "doctor: rates in a folder that is gone": lambda folder: ["doctor", "--measure", "--out", "no/such/rates.json"],
    "new: below a file": lambda folder: ((folder / "f").write_text(""), ["new", "editor", "mine", "--dir", "f"])[1],
    "init: below a file": lambda folder: ((folder / "f").write_text(""), ["init", "f/sweep"])[1],
    "edit: a seed of 2^64": lambda folder: [*_edit(folder), "--seed", str(2**64)],
    "edit: threads of 100,000": lambda folder: [*_edit(folder), "--threads", "100000"],
    "edit: a device that is none": lambda folder: [*_edit(folder), "--device", "gpu:7"],
    "edit: a dtype that is none": lambda folder: [*_edit(folder), "--dtype", "float7"],
}


def _with_file(folder: Path) -> list[str]:
    (folder / "root").write_text("")
    return [*_edit(folder)[:-1], "root/out"]


def _root_below_file(folder: Path) -> list[str]:
    (folder / "taken").write_text("")
    return [*sweep(folder)[:-1], os.path.join("taken", "root")]


SETTINGS = [
    BadInput(kind, name, make)
    for kind, makes in (
        ("hyperparameters", _HYPERPARAMETERS),
        ("preset", _PRESETS),
        ("moments", _MOMENTS),
        ("output", _OUTPUTS),
    )
    for name, make in makes.items()
]
