"""Calibrations that cannot be what was meant, and presets that a calibration did not write."""

import json
import tarfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bad_inputs.case import GOLDEN, TINY_MODEL, BadInput, Make, sweep

__all__ = ["CALIBRATIONS"]

_FACTS = [
    {"prompt": "{} was born in", "subject": f"Person {number}", "target_new": "Quint", "target_true": "Harbel"}
    for number in range(12)
]


def _calibrate(*more: str, before: Callable[[Path], object] = lambda folder: None, out: str = "own.yaml") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "facts.json").write_text(json.dumps(_FACTS))
        before(folder)
        named = ["--moments", str(GOLDEN / "stats_llama.npz"), "--requests", "8", "--out", out]
        return ["calibrate", str(TINY_MODEL), "facts", "--path", "facts.json", *named, *more]

    return make


def _text(name: str, text: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def _preset(held_out: Any) -> Make:
    def make(folder: Path) -> list[str]:
        entry = {"value": 1, "source": "mine"}
        sections = {"sources": {}, "shared": {"layers": {**entry, "value": [0]}}, "editors": {"unedited": {}}}
        (folder / "own.yaml").write_text(yaml.safe_dump({**sections, "held_out": held_out}))
        model = {"source": "factworld", "dtype": "float32", "preset": "own.yaml"}
        return sweep(folder, models=[model], methods=["unedited"], moments=None)

    return make


def _tar(folder: Path) -> list[str]:
    content = json.dumps(_FACTS).encode()
    with tarfile.open(folder / "data.json.gz", "w:gz") as archive:
        member = tarfile.TarInfo("data.json")
        member.size = len(content)
        archive.addfile(member, BytesIO(content))
    return sweep(folder, streams=[{"dataset": "facts", "path": "data.json.gz", "edits": 2}])


_CALIBRATION: dict[str, Make] = {
    "an editor that has no ridge": _calibrate("--editor", "rome"),
    "an editor twice": _calibrate("--editor", "memit", "--editor", "memit"),
    "an objective there is not": _calibrate("--objective", "specificity"),
    "a span beyond the layers": _calibrate("--spans", "3-9"),
    "a span from high to low": _calibrate("--spans", "2-1"),
    "spans that are words": _calibrate("--spans", "early"),
    "no moments of the spans": _calibrate("--spans", "3"),
    "moments that are not there": _calibrate("--moments", "nowhere.safetensors"),
    "moments that are text": _calibrate("--moments", "facts.json"),
    "more requests than subjects": _calibrate("--requests", "1000"),
    "what is searched is set": _calibrate("--set", "clamp_norm_factor=1"),
    "a hyperparameter of another editor": _calibrate("--set", "nullspace_share=0.5", "--set", "lr=1"),
    "a preset that is not YAML": _calibrate(out="own.json"),
    "a preset in a folder there is not": _calibrate(out="nowhere/own.yaml"),
    "a log that is not one": _calibrate("--log", "facts.json"),
    "a log that is a folder": _calibrate("--log", "log", before=lambda folder: (folder / "log").mkdir()),
    "a log of other lines": _calibrate(before=_text("own.jsonl", '{"trial": 1}\n')),
    "facts held out that are numbers": _preset({"facts": [1, 2]}),
    "facts held out that are a text": _preset("all"),
}


def _stream(folder: Path, *, content: str | bytes) -> list[str]:
    (folder / "data.json").write_bytes(content.encode() if isinstance(content, str) else content)
    return sweep(folder, streams=[{"dataset": "facts", "path": "data.json", "edits": 1}], batch_size=1)


_TEXTS: dict[str, str | bytes] = {
    "a DVC pointer": "outs:\n- md5: 0123\n  path: data.json\n",
    "a server's error as XML": "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "UTF-16 without a mark": json.dumps(_FACTS).encode("utf-16-be"),
    "a zero character in a subject": json.dumps([{**_FACTS[0], "subject": "Per\x00son"}]),
    "a placeholder of another template": json.dumps([{**_FACTS[0], "prompt": "[X] was born in"}]),
    "null": "null",
}
_FILES: dict[str, Make] = {
    "a tar archive": _tar,
    **{name: partial(_stream, content=content) for name, content in _TEXTS.items()},
}
_CONTEXTS: dict[str, Make] = {
    "a first word longer than the model": lambda folder: sweep(folder, contexts={"seeds": ["word" * 500], "length": 5}),
}

CALIBRATIONS = [
    *(BadInput("calibration", name, make) for name, make in _CALIBRATION.items()),
    *(BadInput("data", name, make) for name, make in _FILES.items()),
    *(BadInput("templates", name, make) for name, make in _CONTEXTS.items()),
]
