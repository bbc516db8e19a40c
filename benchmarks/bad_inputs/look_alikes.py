"""Inputs that look like good ones: YAML that says something else, and records with holes."""

import json
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs.case import BadInput, Make, plan_of, sweep

__all__ = ["LOOK_ALIKES"]

_FACT = {"case_id": 0, "prompt": "{} was born in", "subject": "Mira Solen", "target_new": "Quint"}
_REWRITE = {
    **{"prompt": "{} was born in", "subject": "Mira Solen", "target_new": {"str": "Quint"}},
    "target_true": {"str": "Harbel"},
}


def _piece(old: str, new: str) -> Make:
    return lambda folder: plan_of(folder, old, new)


def _with(**changes: Any) -> Make:
    return lambda folder: sweep(folder, **changes)


_TEXTS: dict[str, Make] = {
    "a merge key that brings an unknown key": _piece("contexts:\n", "common: &c {length: 4}\ncontexts:\n  <<: *c\n"),
    "a merge of a number": _piece("contexts:\n", "contexts:\n  <<: 3\n"),
    "an anchor given twice and never used well": _piece("name: bad", "name: &a bad\nkeep: &a all\nwatchdog: *a"),
    "an alias where a list is wanted": _piece("name: bad", "name: &n bad\npublished: *n"),
    "tabs between key and value": _piece("- factworld", "- factworld\n\t# a comment"),
    "a no-break space in a key": _piece("batch_size: 2", "batch_size\u00a0: 2"),
    "a Cyrillic letter in a key": _piece("batch_size: 2", "b\u0430tch_size: 2"),
    "a Cyrillic letter in a method": _with(methods=["m\u0435mit"]),
    "a full-width digit": _piece("batch_size: 2", "batch_size: \uff12"),
    "a zero-width space in a name": _piece("name: bad", 'name: "ba\u200bd"'),
    "a mark of direction in a label": _with(methods=[{"name": "memit", "label": "a\u202eb"}, "memit", "memit"]),
    "a number in base sixty": _piece("batch_size: 2", "batch_size: 1:30"),
    "a number with underscores that is too large": _piece("batch_size: 2", "batch_size: 9_999_999_999_999_999_999"),
    "yes for a list": _piece("seeds:\n- 0", "seeds: yes"),
    "off for a moments": _piece("moments:\n  corpus: factworld\n  sentences: 100", "moments: off"),
    "a null key": _piece("name: bad", "name: bad\n? null\n: 1"),
    "a list as a key": _piece("name: bad", "name: bad\n? [a, b]\n: 1"),
    "a number as a key": _piece("name: bad", "name: bad\n7: 1"),
    "seeds given by NaN": _piece("seeds:\n- 0", "seeds: [.nan]"),
    "minus infinity edits": _piece("edits: 4", "edits: -.inf"),
    "a thousand unknown keys": _piece("name: bad", "name: bad\n" + "\n".join(f"k{n}: 1" for n in range(1000))),
    "a plain text of 2 MB": _piece("name: bad", "name: " + "n" * (2 << 20)),
    "a directive that is none": _piece("name: bad", "%YAML 9.9\n---\nname: bad"),
    "a custom tag": _piece("name: bad", "name: !env HOME"),
    "a function of lm-eval": _piece("name: bad", "name: !function os.system"),
    "a trust of code": _with(evaluators={"general": {"tasks": ["factworld"], "trust_task_code": True}}),
    "an environment variable as a model": _with(
        models=[{"source": "$HOME/model", "dtype": "float32", "preset": "factworld"}]
    ),
    "a URL with a password as a model": _with(
        models=[{"source": "https://u:p@example.org/m", "dtype": "float32", "preset": "factworld"}]
    ),
    "a home that is none": _with(models=[{"source": "~nobody-here/m", "dtype": "float32", "preset": "factworld"}]),
    "a preset that is a folder": _with(models=[{"source": "factworld", "dtype": "float32", "preset": "root.yaml/"}]),
    "a hyperparameter of another method": _with(
        methods=[{"name": "memit", "hyperparameters": {"nullspace_threshold": 0.1}}]
    ),
    "hyperparameters as a list": _with(methods=[{"name": "memit", "hyperparameters": ["v_lr"]}]),
    "a regularizer before its editor": _with(methods=["sphere+memit"]),
    "a plus at the end": _with(methods=["memit+"]),
    "layers twice": _with(methods=[{"name": "memit", "hyperparameters": {"layers": [0, 0]}}]),
    "layers below zero": _with(methods=[{"name": "memit", "hyperparameters": {"layers": [-1]}}]),
    "no layers": _with(methods=[{"name": "memit", "hyperparameters": {"layers": []}}]),
}


def _records(*records: object, dataset: str = "facts", **stream: Any) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "data.json").write_text(json.dumps(list(records)))
        entry = {"dataset": dataset, "path": "data.json", "edits": len(records), **stream}
        return sweep(folder, streams=[entry], batch_size=1, checkpoint_every=1)

    return make


def _counterfact(record: object) -> Make:
    return _records(record, dataset="counterfact")


_RECORDS: dict[str, Make] = {
    "a subject that is null": _records({**_FACT, "subject": None}),
    "a list of nulls as paraphrases": _records({**_FACT, "paraphrases": [None]}),
    "nested lists as paraphrases": _records({**_FACT, "paraphrases": [["a", "b"]]}),
    "a number as a prompt": _records({**_FACT, "prompt": 7}),
    "a rewrite that is null": _counterfact({"case_id": 0, "requested_rewrite": None}),
    "a rewrite that is a list": _counterfact({"case_id": 0, "requested_rewrite": [_REWRITE]}),
    "a target whose text is null": _counterfact(
        {"case_id": 0, "requested_rewrite": {**_REWRITE, "target_new": {"str": None}}}
    ),
    "a true target of nested objects": _counterfact(
        {"case_id": 0, "requested_rewrite": {**_REWRITE, "target_true": {"str": {"str": "A"}}}}
    ),
    "a prompt without a place": _counterfact(
        {"case_id": 0, "requested_rewrite": {**_REWRITE, "prompt": "was born in"}}
    ),
    "a prompt with two places": _counterfact({"case_id": 0, "requested_rewrite": {**_REWRITE, "prompt": "{} and {}"}}),
    "a prompt with a named place": _counterfact(
        {"case_id": 0, "requested_rewrite": {**_REWRITE, "prompt": "{who} is"}}
    ),
    "neighbours that are null": _counterfact(
        {"case_id": 0, "requested_rewrite": _REWRITE, "neighborhood_prompts": [None]}
    ),
    "an id that is an object": _records({**_FACT, "case_id": {"a": 1}}),
    "a record that is null": _records(None),
    "a record that is a list": _records([_FACT]),
    "an unknown data set with a look-alike": _records(_FACT, dataset="counterf\u0430ct"),
    "knowedit of another shape": _records({"question": "a"}, dataset="knowedit"),
    "ripple edits of another shape": _records({"edit": None}, dataset="ripple_edits"),
    "wikibigedit of another shape": _records({"subject": "a"}, dataset="wikibigedit"),
    "an option that the data set does not have": _records(_FACT, target="alt"),
    "an order that names a record twice": lambda folder: (
        (folder / "order.json").write_text("[0, 0]"),
        _records(_FACT, {**_FACT, "case_id": 1, "subject": "Ann Lee"}, order={"given": "order.json"})(folder),
    )[1],
    "an order of nested nulls": lambda folder: (
        (folder / "order.json").write_text("[[null]]"),
        _records(_FACT, order={"given": "order.json"})(folder),
    )[1],
}

LOOK_ALIKES = [
    BadInput(kind, name, make)
    for kind, makes in (("sweep", _TEXTS), ("data", _RECORDS))
    for name, make in makes.items()
]
