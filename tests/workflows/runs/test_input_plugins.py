"""Data sets and families from outside the release: read, digested, carried, and refused with their place."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import sphere
from plugin_parts import install_package
from sweep_files import tiny, write_sweep
from tiny_models import tokenizer
from transformers import AutoModelForCausalLM, GraniteConfig

from sphere_core.conformance import NotConformingError
from sphere_core.conformance_of_inputs import check_dataset, check_family
from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model
from sphere_core.plugins import Plugins
from workflows.cluster.job_package import pack
from workflows.runs.new_plugin import start_of
from workflows.store.plan import SweepPlan, read_plan
from workflows.sweeps.expand import load_sweep

QUIZ = [
    {"question": f"{who} plays the", "subject": who, "answer": what}
    for who, what in (("Mira Solen", "harp"), ("Dario Venn", "violin"))
]
PLAIN = {"methods": ["memit"], "seeds": [0], "checkpoint_every": 2, "evaluators": {"edit_quality": {}}}


@pytest.fixture(scope="module")
def granite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of a model type that the release has no family for."""
    folder = tmp_path_factory.mktemp("granite")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": 320, "max_position_embeddings": 64}
    # As published ones do, it scales: embeddings, what is added to the stream, and logits.
    scales = {
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.1,
        "residual_multiplier": 0.3,
        "logits_scaling": 8,
    }
    AutoModelForCausalLM.from_config(GraniteConfig(**sizes, **ends, **scales)).save_pretrained(folder)
    tokenizer(adds_bos=False).save_pretrained(folder)
    return folder


def quiz_sweep(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "quiz.py").write_text(start_of("dataset", "quiz"), encoding="utf-8")
    (folder / "records.json").write_text(json.dumps(QUIZ), encoding="utf-8")
    streams = [{"dataset": "quiz", "path": "records.json", "edits": 2}]
    return write_sweep(folder, tiny(**{**PLAIN, "plugins": ["quiz.py"], "streams": streams, **changes}))


def granite_sweep(folder: Path, granite: Path, family: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "granite.py").write_text(family, encoding="utf-8")
    models = [{"source": str(granite), "preset": "factworld", "dtype": "float32"}]
    methods = [{"name": "memit", "hyperparameters": {"layers": [0, 1], "v_num_grad_steps": 1}}]
    return write_sweep(folder, tiny(**{**PLAIN, "plugins": ["granite.py"], "models": models, "methods": methods}))


def planned(root: Path) -> SweepPlan:
    return read_plan(Storage(root))


def test_a_reader_of_ones_own_is_read_digested_carried_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = quiz_sweep(tmp_path / "sweep"), tmp_path / "root"
    reader = path.parent / "quiz.py"
    assert [name for name, _ in pack(path).plugins] == ["quiz.py"]
    assert sphere(monkeypatch, "data", "quiz", "--path", path.parent / "records.json", "--plugin", reader) == 0
    assert "'Mira Solen plays the' -> 'harp'" in " ".join(capsys.readouterr().out.split())
    assert sphere(monkeypatch, "run", path, "--local", "--root", root) == 0
    assert "the dataset 'quiz' is code of quiz.py" in capsys.readouterr().out
    (first,) = planned(root).trajectories
    spec = json.loads((root / "trajectories" / first.id / "spec.json").read_text())
    assert set(spec["plugins"]) == {"dataset/quiz"}
    # Another reading of the same records is other numbers; the root is the author's own, and goes on with it.
    reader.write_text(reader.read_text().replace("subject, answer, None", "subject, answer.upper(), None"))
    assert sphere(monkeypatch, "run", path, "--local", "--root", root) == 0
    (second,) = planned(root).trajectories
    assert second.id != first.id
    assert second.stream_digest != first.stream_digest
    capsys.readouterr()
    assert sphere(monkeypatch, "table", root) == 0
    assert r"memit: code of quiz.py" in capsys.readouterr().out


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "raises": (lambda text: text.replace("template_of(question", "template_off(question"), "cannot read record 0"),
    "returns": (
        lambda text: text.replace("return placed(lambda: ", "return str(lambda: ").replace(
            ", where=where)\n\n\nDATA", ")\n\n\nDATA"
        ),
        "makes a str of record 0",
    ),
    "row": (lambda text: re.sub(r"Schema\(.*\)", "read", text), "is a function, not a Schema"),
    "taken": (lambda text: text.replace('"quiz": Schema', '"zsre": Schema'), "the name 'zsre' is taken"),
    "name": (lambda text: text.replace('"quiz": Schema', '"quizz": Schema'), "did you mean 'quizz'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_reader_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    change, what = FAULTS[fault]
    path = quiz_sweep(tmp_path)
    (tmp_path / "quiz.py").write_text(change(start_of("dataset", "quiz")), encoding="utf-8")
    assert sphere(monkeypatch, "plan", path, "--root", tmp_path / "root") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert what in said
    assert not (tmp_path / "root").exists()


def test_a_family_of_ones_own_runs_from_a_file_and_from_a_package(
    tmp_path: Path, granite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="belongs to no known family") as refused:
        load_model(str(granite), dtype="float32", device="cpu")
    assert "sphere new family granite" in str(refused.value.remedy)
    text = start_of("family", "granite")
    path, root = granite_sweep(tmp_path / "sweep", granite, text), tmp_path / "root"
    assert sphere(monkeypatch, "run", path, "--local", "--root", root) == 0
    assert "the family 'granite' is code of granite.py" in capsys.readouterr().out
    (first,) = planned(root).trajectories
    # The row is part of the model's digest: what it says, and not how its file is written.
    assert [*load_sweep(granite_sweep(tmp_path / "sweep", granite, f"# a comment\n{text}")).specs] == [first.id]
    other = text.replace('"gate": "mlp.gate_proj", ', "")
    assert [*load_sweep(granite_sweep(tmp_path / "sweep", granite, other)).specs] != [first.id]
    install_package(tmp_path / "site", "granite_family", text, {"sphere.families": "granite"})
    monkeypatch.syspath_prepend(tmp_path / "site")
    model = load_model(str(granite), dtype="float32", device="cpu")
    assert model.base_digest == first.model_digest


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda text: text.replace("mlp.down_proj", "mlp.down"), "names a module that the model does not have"),
        (lambda text: text.replace('decoder="model"', "decoder=7"), "a path that is not a text"),
        (lambda text: text.replace('    "granite": Family(', '    "llama": Family('), "the name 'llama' is taken"),
        (lambda text: re.sub(r"Family\(.*?\n    \),", "dict(),", text, flags=re.DOTALL), "is a dict"),
    ],
)
def test_a_faulty_family_is_refused_with_its_place(
    tmp_path: Path,
    granite: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[str], str],
    what: str,
) -> None:
    path = granite_sweep(tmp_path, granite, change(start_of("family", "granite")))
    assert sphere(monkeypatch, "plan", path, "--root", tmp_path / "root") == 2
    assert what in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "root").exists()


def row_of(path: Path, text: str, kind: str) -> Any:
    path.write_text(text, encoding="utf-8")
    found = Plugins.of_files([path]).find(kind, path.stem)
    assert found is not None
    return found.row


def test_a_reader_conforms_or_its_broken_rule_is_named(tmp_path: Path) -> None:
    text = start_of("dataset", "quiz")
    check_dataset(name="quiz", row=row_of(tmp_path / "quiz.py", text, "dataset"), records=QUIZ)
    faults = {
        "left as they were": ("    prompt =", "    record['seen'] = True\n    prompt ="),
        "is an InputError; found: KeyError": ("required_text(record, name, where=where)", "record[name]"),
        "equal requests": ("EditRequest(case_id,", "EditRequest(__import__('time').monotonic_ns() % 10**9,"),
    }
    for rule, (old, new) in faults.items():
        assert old in text
        row = row_of(tmp_path / "quiz.py", text.replace(old, new), "dataset")
        with pytest.raises(NotConformingError, match=rule):
            check_dataset(name="quiz", row=row, records=QUIZ)


def test_a_family_conforms_or_its_broken_rule_is_named(tmp_path: Path, granite: Path) -> None:
    text = start_of("family", "granite")
    check_family(name="granite", row=row_of(tmp_path / "granite.py", text, "family"), folder=granite)
    # The layers' outputs go through another module than the norm.
    wrong = row_of(tmp_path / "granite.py", text.replace('"model.norm"', '"model.layers.1.self_attn.o_proj"'), "family")
    with pytest.raises(NotConformingError, match="whole forward's logits"):
        check_family(name="granite", row=wrong, folder=granite)
    with pytest.raises(InputError, match="of the family 'llama', not 'granite'"):
        check_family(name="granite", row=row_of(tmp_path / "granite.py", text, "family"), folder=shipped_model_dir())


def test_commands_beside_sweeps_take_plugin_files(
    tmp_path: Path, granite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("granite.py").write_text(start_of("family", "granite"), encoding="utf-8")
    Path("quiz.py").write_text(start_of("dataset", "quiz"), encoding="utf-8")
    Path("records.json").write_text(json.dumps(QUIZ), encoding="utf-8")
    family, quiz = ("--plugin", "granite.py"), ("--plugin", "quiz.py", "--path", "records.json")
    order = ("order", "quiz", "--model", granite, "--layer", 0, "--edits", 2, "--out", "orders")
    corpus = ("--corpus", "factworld", "--sentences", 20, "--store", "kept")
    built = ("moments", "build", granite, "--layers", "0", *corpus)
    layers = ("calibrate", granite, "--layers", "--spans", "0-1")
    for command, needed in ((order, (*quiz, *family)), (built, family), (layers, family)):
        assert sphere(monkeypatch, *command, *needed) == 0, capsys.readouterr().err
        capsys.readouterr()
        assert sphere(monkeypatch, *command, *(quiz if command is order else ())) == 2
        assert "belongs to no known family" in capsys.readouterr().err
    assert sphere(monkeypatch, "doctor", granite, "--json", *family) in (0, 1)
    assert "no known family" not in capsys.readouterr().out
    assert sphere(monkeypatch, "doctor", granite, "--json") == 1
    assert "no known family" in capsys.readouterr().out
    calibration = ("calibrate", granite, "quiz", *quiz, *family, "--moments", "none.npz", "--out", "own.yaml")
    assert sphere(monkeypatch, *calibration) == 2
    assert "the data set has 2 subjects" in " ".join(capsys.readouterr().err.split())
