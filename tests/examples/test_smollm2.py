"""The example on a real model: its pure parts, and its files, without the packages that it fetches."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import fsspec
import pytest
import yaml
from repository import EXAMPLES

from sphere_core.hyperparameters import preset
from sphere_core.methods import resolve_method
from workflows.sweeps.spec import SweepSpec

FOLDER = EXAMPLES / "smollm2"


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", FOLDER / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_document_of_the_task_ends_before_the_last_word_of_a_sentence(prepare: ModuleType) -> None:
    words = [f"word{number}" for number in range(25)]
    found = prepare.last_word(" ".join([*words, "the", "river.", "Then", "more", "came."]))
    assert found == {"prompt": " ".join([*words, "the"]), "word": "river"}


@pytest.mark.parametrize("ending", ["day.", "Paris.", "1990.", "river", "(river)."])
def test_short_words_names_numbers_and_unended_sentences_are_no_documents(prepare: ModuleType, ending: str) -> None:
    assert prepare.last_word(" ".join([*["word"] * 25, ending])) is None


def test_too_early_and_too_late_ends_are_passed_over(prepare: ModuleType) -> None:
    fewest, most = prepare.WORDS_BEFORE
    early = prepare.last_word(" ".join(["river.", *["word"] * (fewest - 2), "stone."]))
    assert early is None
    assert prepare.last_word(" ".join([*["word"] * most, "river."])) is None


def test_redirects_and_cut_pages_are_left_out(prepare: ModuleType) -> None:
    page = "<page><title>{}</title>{}<revision><text>{}</text></revision></page>"
    dump = "<mediawiki>" + page.format("A", "", "An article.") + page.format("B", '<redirect title="A" />', "#x")
    dump += page.format("C", "", "#REDIRECT [[A]]") + "<page><title>D</title><revision><text>cut of"
    assert list(prepare.pages(dump.encode())) == ["An article."]


def test_records_of_files_and_urls_are_joined_in_order(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"case_id": 3}]))
    # A URL of a file system that lives in this process.
    fsspec.filesystem("memory").pipe("/records/b.json", json.dumps([{"case_id": 1}, {"case_id": 2}]).encode())
    data = tmp_path / "data"
    (data / "smollm2-135m").mkdir(parents=True)
    (data / "smollm2-135m" / "config.json").touch()
    (data / "wikipedia.jsonl").touch()
    monkeypatch.setattr(
        "sys.argv", ["prepare.py", str(data), "--records", str(tmp_path / "a.json"), "memory://records/b.json"]
    )
    prepare.main()
    assert [record["case_id"] for record in json.loads((data / "counterfact.json").read_text())] == [3, 1, 2]


@pytest.mark.parametrize(
    ("file", "layers"),
    [("sweep.yaml", [4, 5, 6, 7, 8]), ("zsre.yaml", [4, 5, 6, 7, 8]), ("breaks.yaml", [8])],
)
def test_its_sweep_files_are_valid_and_their_presets_serve_every_method(file: str, layers: list[int]) -> None:
    sweep = SweepSpec.model_validate(yaml.safe_load((FOLDER / file).read_text()))
    chosen = sweep.models[0].preset
    assert chosen is not None
    for method in sweep.methods:
        resolved = resolve_method(method.name)
        values = preset(str(FOLDER / chosen), resolved.editor_name, resolved.regularizer_names)
        assert list(values.layers) == layers
