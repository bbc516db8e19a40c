"""Ten broken inputs through the command line: exit code 2, one screen with place, field and remedy, nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import sphere, squeezed
from repository import DATASETS
from safetensors.torch import save_file
from sweep_files import tiny, write_sweep
from tiny_models import tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# What a broken input does to a folder: it returns the changes to the sweep and what the screen must say.
Broken = Callable[[Path], tuple[dict[str, Any], list[str]]]


def stream(path: Path, dataset: str) -> dict[str, Any]:
    return {"streams": [{"dataset": dataset, "path": path.name, "edits": 1}]}


def changed(folder: Path, source: str, change: Callable[[Any], None]) -> Path:
    """A copy of a data file, changed."""
    records = json.loads((DATASETS / source).read_text())
    change(records)
    path = folder / source
    path.write_text(json.dumps(records))
    return path


def model(folder: Path) -> Path:
    """A whole model in a folder."""
    made = tiny_model("llama")
    made.network.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def with_model(source: str, **more: Any) -> dict[str, Any]:
    return {"models": [{"source": source, "dtype": "float32", "preset": "factworld", **more}]}


def config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def wrong_schema(folder: Path) -> tuple[dict[str, Any], list[str]]:
    path = Path(shutil.copy(DATASETS / "zsre_mend_eval.json", folder))
    return stream(path, "counterfact"), ["zsre_mend_eval.json, record 0", "'requested_rewrite' is missing", "needs"]


def subject_missing(folder: Path) -> tuple[dict[str, Any], list[str]]:
    path = changed(folder, "zsre_mend_eval.json", lambda records: records[1].update(subject="harbel bridge"))
    return stream(path, "zsre"), [
        "record 1",
        "field src",
        "'harbel bridge' does not occur",
        "write the subject exactly",
    ]


def empty_target(folder: Path) -> tuple[dict[str, Any], list[str]]:
    def change(records: Any) -> None:
        records[2]["requested_rewrite"]["target_new"]["str"] = " "

    path = changed(folder, "counterfact.json", change)
    found = ["record 2 (case 2)", "requested_rewrite.target_new.str", "must be a non-empty text", "write a text"]
    return stream(path, "counterfact"), found


def unknown_family(folder: Path) -> tuple[dict[str, Any], list[str]]:
    config(model(folder), model_type="mamba")
    return with_model("model"), ["models[0]", "'mamba'", "belongs to no known family", "llama"]


def experts(folder: Path) -> tuple[dict[str, Any], list[str]]:
    config(model(folder), model_type="granitemoe", num_local_experts=4)
    return with_model("model"), [
        "models[0]",
        "'granitemoe' is a mixture of experts",
        "known mixtures: mixtral, olmoe, qwen3_moe",
    ]


def foreign_moments(folder: Path) -> tuple[dict[str, Any], list[str]]:
    save_file({f"layer{layer}": torch.eye(9, dtype=torch.float64) for layer in (0, 1)}, folder / "m.safetensors")
    return {"moments": {"file": "m.safetensors"}}, [
        "m.safetensors",
        "layer 0 is (9, 9)",
        "512 inputs",
        "this very model",
    ]


def damaged_weights(folder: Path) -> tuple[dict[str, Any], list[str]]:
    path = model(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-64])
    return with_model("model"), [
        "models[0]",
        "model.safetensors is not a whole safetensors file",
        "fetch the file again",
    ]


def revision_not_cached(folder: Path) -> tuple[dict[str, Any], list[str]]:
    cached = folder / "hub" / "models--made-up--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    (cached / "snapshots").mkdir()
    shutil.move(model(folder), cached / "snapshots" / COMMIT)
    return with_model("made-up/tiny", revision="v2"), ["models[0]", "made-up/tiny", "at revision 'v2'", "offline"]


def hub_id_offline(_: Path) -> tuple[dict[str, Any], list[str]]:
    given = {"dataset": "zsre", "hub": "nobody/zsre", "revision": "main", "edits": 1}
    return {"streams": [given]}, [
        "streams[0]",
        "nobody/zsre at main",
        "cannot be read from the hub",
        "give it as 'path'",
    ]


def foreign_tokenizer(folder: Path) -> tuple[dict[str, Any], list[str]]:
    place = model(folder)
    config(place, vocab_size=200)
    return with_model("model"), ["models[0]", "the tokenizer knows 320 tokens, the model 200", "config.json", "own"]


BROKEN: list[Broken] = [
    wrong_schema,
    subject_missing,
    empty_target,
    unknown_family,
    experts,
    foreign_moments,
    damaged_weights,
    revision_not_cached,
    hub_id_offline,
    foreign_tokenizer,
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_input_is_one_screen_and_nothing_written(
    broken: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    changes, expected = broken(tmp_path)
    path = write_sweep(tmp_path, tiny(seeds=[0], methods=["memit"], **changes))
    monkeypatch.chdir(tmp_path)
    before = {found: found.stat().st_mtime_ns for found in tmp_path.rglob("*")}
    assert sphere(monkeypatch, "run", path, "--local") == 2
    error = capsys.readouterr().err
    for text in ("where:", "remedy:", *expected):
        assert squeezed(text) in squeezed(error), error
    assert "Traceback" not in error
    assert len(error.splitlines()) < 24
    assert {found: found.stat().st_mtime_ns for found in tmp_path.rglob("*")} == before
