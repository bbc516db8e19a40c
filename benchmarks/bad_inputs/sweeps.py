"""Sweep files that are no sweeps: syntax, types, ranges, names, sizes."""

from typing import Any

from benchmarks.bad_inputs.case import BadInput, Make, plan_of, sweep, text_sweep

__all__ = ["SWEEPS"]

_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join(['*' + chr(97 + level)] * 10)}]\n" for level in range(9)
)


def _text(text: str | bytes) -> Make:
    return lambda folder: text_sweep(folder, text)


def _with(**changes: Any) -> Make:
    return lambda folder: sweep(folder, **changes)


def _piece(old: str, new: str) -> Make:
    return lambda folder: plan_of(folder, old, new)


def _memit(**values: Any) -> Make:
    return _with(methods=[{"name": "memit", "hyperparameters": values}])


def _resources(**values: Any) -> Make:
    return _with(resources={"threads": 1, "evaluator": {"replicas": 0}, **values})


_MAKES: dict[str, Make] = {
    "empty": _text(""),
    "only a comment": _text("# nothing\n"),
    "a list": _text("- name: bad\n"),
    "a text": _text("just words\n"),
    "a number": _text("7\n"),
    "not UTF-8": _text("name: H\xe4rbel\n".encode("latin-1")),
    "UTF-16": _text("name: bad\n".encode("utf-16")),
    "a NUL in a path": _piece("name: bad", 'name: bad\npublished: [{source: "a\\0b"}]'),
    "a NUL in a model path": _piece("- factworld", '- {source: "a\\0b", dtype: float32, preset: factworld}'),
    "an escape sequence in a name": _piece("name: bad", 'name: "\\e[2Jbad"'),
    "an unclosed bracket": _text("name: [bad\nmodels: 1\n"),
    "a tab": _text("name: bad\n\tmodels: [factworld]\n"),
    "two documents": _text("name: bad\n---\nname: worse\n"),
    "a Python tag": _text("name: !!python/object/apply:os.system [id]\n"),
    "a binary tag": _piece("name: bad", "name: !!binary aGVsbG8="),
    "a date": _piece("name: bad", "name: 2024-01-01"),
    "a date that is none": _piece("name: bad", "name: 2024-99-99"),
    "a set": _piece("seeds:\n- 0", "seeds: !!set {0, 1}"),
    "a cycle": _piece("name: bad", "name: &a [*a]"),
    "a cycle of keys": _piece("contexts:", "contexts: &c {seeds: *c}\nother:"),
    "an unknown alias": _piece("name: bad", "name: *nothing"),
    "billion laughs": _text(_LAUGHS),
    "billion laughs inside hyperparameters": _text(
        _LAUGHS + "methods: [{name: memit, hyperparameters: {layers: *j}}]\n"
    ),
    "100,000 brackets": _text("name: " + "[" * 100_000),
    "100,000 braces": _text("name: " + "{a: " * 100_000),
    "2,000 levels by indentation": _text("".join(" " * level + "a:\n" for level in range(2000))),
    "a comment of 50 MB": _text("# " + "x" * (50 << 20) + "\nname: bad\n"),
    "a key of 5,000 characters": _piece("name: bad", "name: bad\n" + "k" * 5000 + ": 1"),
    "a name of 5,000 characters": _with(name="n" * 5000),
    "an integer of 5,000 digits": _piece("batch_size: 2", "batch_size: " + "9" * 5000),
    "a key given twice": _piece("name: bad", "name: bad\nname: worse"),
    "a key given twice inside": _piece("contexts:\n", "contexts:\n  length: 4\n"),
    "a misspelt key": _piece("batch_size: 2", "batchsize: 2"),
    "a misspelt key inside": _piece("checkpoint_every: 4", "checkpoint_every: 4\nkeep: all\nresorces: {threads: 1}"),
    "no name": _with(name=None),
    "no models": _with(models=[]),
    "no evaluator": _with(evaluators={}),
    "a name with a slash": _with(name="../bad"),
    "an empty name": _with(name=""),
    "models as a text": _with(models="factworld"),
    "a model without a preset": _with(models=[{"source": "factworld", "dtype": "float32"}]),
    "an unknown dtype": _with(models=[{"source": "factworld", "dtype": "float31", "preset": "factworld"}]),
    "an unknown preset": _with(models=[{"source": "factworld", "dtype": "float32", "preset": "factwrld"}]),
    "an unknown method": _with(methods=["memitt"]),
    "a regularizer alone": _with(methods=["sphere"]),
    "a regularizer twice": _with(methods=["memit+rect+rect"]),
    "a method twice": _with(methods=["memit", "memit"]),
    "a method of an empty text": _with(methods=[""]),
    "a seed twice": _with(seeds=[1, 1]),
    "a seed of 2^63": _with(seeds=[2**63]),
    "a seed of 2^64": _with(seeds=[2**64]),
    "a seed of -2^70": _with(seeds=[-(2**70)]),
    "a boolean as a seed": _with(seeds=[True]),
    "a text as a seed": _with(seeds=["zero"]),
    "a fraction as a seed": _with(seeds=[0.5]),
    "seeds as a number": _with(seeds=3),
    "a batch of zero": _with(batch_size=0),
    "a batch below zero": _with(batch_size=-2),
    "a boolean as a batch": _with(batch_size=True, checkpoint_every=True),
    "a checkpoint between batches": _with(checkpoint_every=3),
    "infinite edits": _piece("edits: 4", "edits: .inf"),
    "edits that are no number": _piece("edits: 4", "edits: .nan"),
    "more edits than records": _with(streams=[{"dataset": "factworld", "edits": 10**9}]),
    "edits below zero": _with(streams=[{"dataset": "factworld", "edits": -1}]),
    "an unknown order": _with(streams=[{"dataset": "factworld", "edits": 4, "order": "shufled"}]),
    "an order file that is gone": _with(streams=[{"dataset": "factworld", "edits": 4, "order": {"given": "no.json"}}]),
    "conflicts of every edit": _with(
        streams=[{"dataset": "factworld", "edits": 4, "conflicts": {"share": 1.5, "distance": 1}}]
    ),
    "threads of 100,000": _resources(threads=100_000),
    "threads of zero": _resources(threads=0),
    "a boolean as threads": _resources(threads=True),
    "infinite CPUs": _piece("num_cpus: 1", "num_cpus: .inf"),
    "GPUs that are no number": _piece("num_cpus: 1", "num_gpus: .nan"),
    "GPUs below zero": _resources(replica={"num_gpus": -1}),
    "one and a half GPUs": _resources(replica={"num_gpus": 1.5}),
    "an infinite grace": _piece("threads: 1", "threads: 1\n  grace_seconds: .inf"),
    "a device that is none": _resources(replica={"device": "gpu:0"}),
    "a device beyond those there are": _resources(replica={"device": "cuda:99"}),
    "a device of an empty text": _resources(replica={"device": ""}),
    "contexts of 100,000 tokens": _with(contexts={"seeds": ["The"], "length": 100_000, "top_k": 5}),
    "100,000 contexts": _with(contexts={"seeds": [f"w{place}" for place in range(100_000)], "length": 5}),
    "contexts of length zero": _with(contexts={"seeds": ["The"], "length": 0}),
    "a top_k of zero": _with(contexts={"seeds": ["The"], "length": 5, "top_k": 0}),
    "a context that is blank": _with(contexts={"seeds": [""], "length": 5}),
    "10^15 sentences": _with(moments={"corpus": "factworld", "sentences": 10**15}),
    "sentences below zero": _with(moments={"corpus": "factworld", "sentences": -5}),
    "no sentences": _with(moments={"corpus": "factworld"}),
    "a corpus that is gone": _with(moments={"corpus": "no/such/corpus.txt", "sentences": 5}),
    "moments from two places": _with(moments={"corpus": "factworld", "sentences": 5, "file": "x.npz"}),
    "no moments": _with(moments=None),
    "a stored key that is none": _with(moments={"stored": "../../etc"}),
    "a watchdog without limits": _with(watchdog={}),
    "a watchdog that is not a number": _piece("name: bad", "name: bad\nwatchdog: {he_drift: .nan}"),
    "keep of another kind": _with(keep="some"),
    "a generation of no tokens": _with(evaluators={"edit_quality": {"generation": {"fluency": {"tokens": 0}}}}),
    "an unknown setting of an evaluator": _with(evaluators={"edit_quality": {"protocl": "correct"}}),
    "an unknown protocol": _with(evaluators={"edit_quality": {"protocols": ["paper-memmit"]}}),
    "a boolean as a cohort": _with(evaluators={"edit_quality": {"cohort": True}}),
    "an evaluator as a text": _with(evaluators={"edit_quality": "yes"}),
    "an unknown evaluator": _with(evaluators={"edit_qualty": {}}),
    "layers that there are not": _memit(layers=[99]),
    "layers as booleans": _memit(layers=[True]),
    "an infinite learning rate": _piece("- memit", "- {name: memit, hyperparameters: {v_lr: .inf}}"),
    "a learning rate of 1e999": _piece("- memit", "- {name: memit, hyperparameters: {v_lr: 1e999}}"),
    "a hyperparameter that is not a number": _piece("- memit", "- {name: memit, hyperparameters: {v_lr: .nan}}"),
    "an absurd hyperparameter": _memit(v_lr=1e12),
    "a hyperparameter of no method": _memit(v_lrr=0.1),
    "a list as a hyperparameter": _memit(v_lr=[0.1]),
    "published numbers without a method": _with(published=[{"value": 3}]),
    "10,000 methods that are one": _with(methods=[{"name": "memit", "label": f"m{place}"} for place in range(10_000)]),
}

SWEEPS = [BadInput("sweep", name, make) for name, make in _MAKES.items()]
