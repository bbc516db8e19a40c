"""Data files, orders and templates that cannot be what was meant."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs.case import BadInput, Make, sweep

__all__ = ["DATA"]

_FACT = {"case_id": 0, "prompt": "{} was born in", "subject": "Mira Solen", "target_new": "Quint"}
_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


def _bytes(content: bytes | str, *, dataset: str = "facts", name: str = "data.json") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return sweep(folder, streams=[{"dataset": dataset, "path": name, "edits": 1}], batch_size=1, checkpoint_every=1)

    return make


def _facts(*records: object, dataset: str = "facts") -> Make:
    return _bytes(json.dumps(list(records)), dataset=dataset)


def _fact(**changes: Any) -> Make:
    return _facts({**_FACT, **changes})


def _counterfact(**changes: Any) -> Make:
    rewrite = {
        "prompt": "{} was born in",
        "subject": "Mira",
        "target_new": {"str": "Quint"},
        "target_true": {"str": "A"},
    }
    return _facts({"case_id": 0, "requested_rewrite": {**rewrite, **changes}}, dataset="counterfact")


def _zsre(**changes: Any) -> Make:
    record = {"subject": "Mira", "src": "Who is Mira?", "answers": ["Quint"], "alt": "B", "loc": "who", "loc_ans": "C"}
    return _facts({**record, **changes}, dataset="zsre")


def _path(make_path: Callable[[Path], str]) -> Make:
    def make(folder: Path) -> list[str]:
        stream = {"dataset": "facts", "path": make_path(folder), "edits": 1}
        return sweep(folder, streams=[stream], batch_size=1, checkpoint_every=1)

    return make


def _loop(folder: Path) -> str:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return "a"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.json")
    return "pipe.json"


def _order(content: object, **order: Any) -> Make:
    def make(folder: Path) -> list[str]:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "order.json").write_text(text)
        stream = {"dataset": "factworld", "edits": 2, "order": {"given": "order.json", **order}}
        return sweep(folder, streams=[stream], batch_size=1, checkpoint_every=1)

    return make


def _templates(content: str) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "contexts.json").write_text(content)
        return sweep(folder, contexts={"file": "contexts.json"})

    return make


_LONG = "In the long history of the old harbour towns where ships came and went, " * 60

_DATA: dict[str, Make] = {
    "missing": _path(lambda folder: "nothing.json"),
    "a folder": _path(lambda folder: "."),
    "a link to itself": _path(_loop),
    "a pipe": _path(_pipe),
    "a name of 300 characters": _path(lambda folder: "x" * 300 + ".json"),
    "a device": _path(lambda folder: "/dev/null"),
    "empty": _bytes(""),
    "an empty list": _bytes("[]"),
    "cut off": _bytes('[{"prompt": "{} is", "subj'),
    "not UTF-8": _bytes('[{"prompt": "{} is", "subject": "H\xe4rbel", "target_new": "Q"}]'.encode("latin-1")),
    "an LFS pointer": _bytes(_LFS),
    "an LFS pointer as Parquet": _bytes(_LFS, name="data.parquet"),
    "a web page": _bytes("<!DOCTYPE html><html><body>Sign in</body></html>"),
    "a zip archive": _bytes(b"PK\x03\x04" + b"\0" * 40),
    "a damaged gzip file": _bytes(gzip.compress(b"[]" * 50)[:-6], name="data.json.gz"),
    "a pickle": _bytes(b"\x80\x04\x95\x10\0\0\0\0\0\0\0]\x94."),
    "Parquet that is none": _bytes("PAR1 nothing", name="data.parquet"),
    "Parquet called JSON": _bytes(b"PAR1\0\0\0\0PAR1"),
    "nested 100,000 deep": _bytes("[" * 100_000),
    "an integer of 5,000 digits": _bytes('[{"case_id": ' + "9" * 5000 + "}]"),
    "NaN as a text": _bytes(json.dumps([{**_FACT, "target_new": float("nan")}])),
    "NaN as a case id": _bytes(json.dumps([{**_FACT, "case_id": float("nan")}])),
    "a key given twice": _bytes('[{"prompt": "{} is", "subject": "A", "target_new": "B", "target_new": "C"}]'),
    "records of texts": _facts("one", "two"),
    "several lists": _bytes(json.dumps({"train": [_FACT], "test": [_FACT]})),
    "a table by columns": _bytes(json.dumps({key: [value] for key, value in _FACT.items()})),
    "the index of pandas": _bytes(",prompt,subject,target_new\n0,{} is,Mira,Quint\n", name="data.csv"),
    "columns by semicolons": _bytes("prompt;subject;target_new\n{} is;Mira;Quint\n", name="data.csv"),
    "a column twice": _bytes("prompt,subject,prompt\na,b,c\n", name="data.csv"),
    "a line too short": _bytes("prompt,subject,target_new\n{} is,Mira\n", name="data.csv"),
    "an open quotation mark": _bytes('prompt,subject,target_new\n"{} is,Mira,Quint\n', name="data.csv"),
    "half a surrogate pair": _bytes(json.dumps([{**_FACT, "subject": "Mira \ud800"}])),
    "half a surrogate pair in a probe": _bytes(json.dumps([{**_FACT, "paraphrase_prompts": ["a \udfff"]}])),
    "a target of invisible characters": _fact(target_new="\u200b\u2060"),
    "a target of blanks": _fact(target_new="\u00a0"),
    "no subject": _fact(subject=None),
    "a subject that is not there": _facts({**_FACT, "prompt": "She was born in"}),
    "a subject twice": _facts({**_FACT, "prompt": "Mira Solen or Mira Solen is in"}),
    "a subject inside a word": _facts({**_FACT, "prompt": "The Romeo is in", "subject": "Rome"}),
    "a subject in another Unicode form": _facts({**_FACT, "prompt": "Is Ha\u0308rbel in", "subject": "H\u00e4rbel"}),
    "two places for the subject": _fact(prompt="{} or {} was born in"),
    "an unknown field": _fact(paraphrases=["Mira Solen is from"]),
    "a probe of no role": _fact(probes=[{"role": "paraphrased", "prompt": "a", "target": "b"}]),
    "probes as a number": _fact(probes=3),
    "a list that is not one": _fact(paraphrase_prompts="[1, 2"),
    "numbers as paraphrases": _fact(paraphrase_prompts=[1]),
    "a neighborhood without a true target": _fact(neighborhood_prompts=["Odo was born in"]),
    "a prompt too long": _fact(prompt=_LONG + "{} was born in"),
    "a target too long": _fact(target_new=_LONG),
    "a paraphrase too long": _fact(paraphrase_prompts=[_LONG]),
    "another schema": _facts({"src": "Who is Mira?", "subject": "Mira", "answers": ["A"]}, dataset="counterfact"),
    "CounterFact with two targets": _counterfact(target_new=["A", "B"]),
    "CounterFact with a target of another shape": _counterfact(target_true={"text": "A"}),
    "CounterFact with a misspelt field": _counterfact(target_ture={"str": "A"}),
    "CounterFact without a place": _counterfact(prompt="She was born in"),
    "zsRE with a subject twice": _zsre(src="Is Mira the Mira?"),
    "zsRE without answers": _zsre(answers=[]),
    "zsRE with a misspelt field": _zsre(rephrase_prompt="Who?"),
    "zsRE with a loc without an answer": _zsre(loc_ans=None),
    "MQuAKE without questions": _facts(
        {"requested_rewrite": [{"prompt": "{} is"}], "new_answer": "a"}, dataset="mquake"
    ),
    "RippleEdits without a sentence": _facts({"edit": {"prompt": "Mira likes Quint."}}, dataset="ripple_edits"),
    "UnKE with answers missing": _facts(
        {"question": "Who?", "answer": "Mira.", "sub_question": ["a", "b"], "sub_answer": ["c"]}, dataset="unke"
    ),
    "a data set that is none": _facts(_FACT, dataset="counterfacts"),
}
_ORDERS: dict[str, Make] = {
    "a name that is not there": _order([99999]),
    "a name twice": _order([1, 1]),
    "names that are numbers with a point": _order([1.5, 2.5]),
    "an empty list": _order([]),
    "not JSON": _order("[1, 2"),
    "samples without a choice": _order({"0": [1], "1": [2]}),
    "a sample that is not there": _order({"0": [1], "1": [2]}, sample="7"),
    "an object of another kind": _order({"order": 3}),
    "nested 100,000 deep": _order("[" * 100_000),
}
_TEMPLATES: dict[str, Make] = {
    "templates without a place": _templates('[["{}"], ["The."]]'),
    "templates that are no groups": _templates('["{}"]'),
    "templates that are numbers": _templates("[[1]]"),
    "templates that do not begin bare": _templates('[["The. {}"]]'),
    "templates that are not JSON": _templates("[[{}]]"),
    "templates that are gone": lambda folder: sweep(folder, contexts={"file": "none.json"}),
    "a template longer than the positions": _templates(json.dumps([["{}"], [_LONG + "{}"]])),
    "templates nested 100,000 deep": _templates("[" * 100_000),
}

DATA = [
    *(BadInput("data", name, make) for name, make in _DATA.items()),
    *(BadInput("order", name, make) for name, make in _ORDERS.items()),
    *(BadInput("templates", name, make) for name, make in _TEMPLATES.items()),
]
