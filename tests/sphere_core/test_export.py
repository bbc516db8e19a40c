"""Export and apply: the folder that leaves is the model that was scored, and the delta makes the same folder again."""

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from command_line import sphere, squeezed
from safetensors.torch import load_file, save_file
from sweep_files import tiny, write_sweep
from transformers import AutoModelForCausalLM, AutoTokenizer

from sphere_core.checkpoints import read_checkpoint
from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.export import merges, read_delta
from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model

MODEL = {"source": "factworld", "dtype": "bfloat16", "preset": "factworld"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a sweep in bfloat16 that has been run: one trajectory, checkpoints after 2 and 4 edits."""
    folder = tmp_path_factory.mktemp("sweep")
    streams = [{"dataset": "factworld", "edits": 4, "order": "shuffled"}]
    settings = tiny(models=[MODEL], seeds=[0], methods=["memit+prune"], streams=streams, checkpoint_every=2)
    path = write_sweep(folder, settings)
    with pytest.MonkeyPatch.context() as patch:
        assert sphere(patch, "run", path, "--local", "--root", folder / "root") == 0
    return folder / "root"


@pytest.fixture(scope="module")
def trajectory(sweep: Path) -> str:
    return next((sweep / "trajectories").iterdir()).name


@pytest.fixture(scope="module")
def exported(sweep: Path, trajectory: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        assert sphere(patch, "export", sweep, "--trajectory", trajectory, "--to", folder / "model") == 0
    return folder / "model"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_gives_the_logits_of_the_model_that_was_scored(sweep: Path, trajectory: str, exported: Path) -> None:
    checkpoint = read_checkpoint(Storage(sweep / "trajectories" / trajectory / "checkpoints"), 4)
    model = load_model("factworld", dtype="bfloat16", device="cpu")
    ids = torch.tensor([[5, 9, 20, 33]])
    with torch.no_grad():
        before = model.network(ids).logits
        model.load_weights(checkpoint.weights)
        plain = AutoModelForCausalLM.from_pretrained(exported)
        assert plain.dtype is torch.bfloat16
        assert torch.equal(plain(ids).logits, model.network(ids).logits)
        assert not torch.equal(plain(ids).logits, before)
    text = "Who lives where?"
    assert AutoTokenizer.from_pretrained(exported)(text) == model.tokenizer(text)
    assert load_model(str(exported), dtype="bfloat16", device="cpu").family.name == "llama"


def test_the_card_says_what_was_edited_how_and_how_it_scores(sweep: Path, trajectory: str, exported: Path) -> None:
    # Columns are aligned: blanks that pad a cell are none of its text.
    card = re.sub(r" +", " ", (exported / "README.md").read_text())
    spec = json.loads((sweep / "trajectories" / trajectory / "spec.json").read_text())
    expected = ["after 4 edits with memit+prune", trajectory, spec["model_digest"], spec["stream_digest"], "bfloat16"]
    expected += ["mom2_update_weight", "| seed | 0 |", "model.layers.0.mlp.down_proj.weight", "efficacy", "he_drift"]
    assert [text for text in expected if text not in card] == []
    assert card.startswith("---\nlibrary_name: transformers\n")
    rows = pq.read_table(next((sweep / "rows" / "geometry").glob(f"{trajectory}-000004-*"))).to_pylist()
    assert rows[0]["weights_digest"] in card


def test_the_delta_makes_the_same_folder_byte_for_byte(
    sweep: Path,
    trajectory: str,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = sweep / "trajectories" / trajectory / "checkpoints" / "000004"
    assert sphere(monkeypatch, "export", checkpoint, "--to", tmp_path / "delta", "--delta-only") == 0
    assert "sphere apply" in capsys.readouterr().out
    delta = tmp_path / "delta" / "delta.safetensors"
    assert sphere(monkeypatch, "apply", tmp_path / "delta", "--model", "factworld", "--to", tmp_path / "model") == 0
    assert contents(tmp_path / "model") == contents(exported)
    assert delta.stat().st_size < (exported / "model.safetensors").stat().st_size
    # Equal deltas are equal bytes.
    capsys.readouterr()
    assert sphere(monkeypatch, "export", checkpoint, "--to", tmp_path / "again", "--delta-only", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["folder"], record["weights_only"], record["digest"]) == (str(tmp_path / "again"), True, None)
    assert record["bytes"] == sum(map(len, contents(tmp_path / "again").values()))
    assert record["weights_digest"] in (tmp_path / "again" / "README.md").read_text()
    assert {merge["dtype"] for merge in record["merges"]} >= {"bfloat16"}
    assert contents(tmp_path / "again") == contents(tmp_path / "delta")


@pytest.mark.parametrize("address", ["", "000004"])
def test_what_sphere_edit_wrote_is_exported_alike(
    sweep: Path, trajectory: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    source, out = sweep / "trajectories" / trajectory, tmp_path / "edited"
    shutil.copytree(source / "checkpoints", out)
    shutil.copy(source / "spec.json", out)
    moved = tmp_path / "moved"
    shutil.copytree(shipped_model_dir(), moved)
    assert sphere(monkeypatch, "export", out / address, "--model", moved, "--to", tmp_path / "model") == 0
    mine, theirs = contents(tmp_path / "model"), contents(exported)
    assert "None were recorded" in mine.pop("README.md").decode()
    assert mine == {name: data for name, data in theirs.items() if name != "README.md"}


def test_another_base_model_and_a_damaged_delta_are_refused(
    sweep: Path,
    trajectory: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = sweep / "trajectories" / trajectory
    assert sphere(monkeypatch, "export", folder, "--edits", 2, "--to", tmp_path / "delta", "--delta-only") == 0
    other = tmp_path / "other"
    other.mkdir()
    for path in shipped_model_dir().iterdir():
        if path.is_file():
            (other / path.name).write_bytes(path.read_bytes())
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    made = read_delta(tmp_path / "delta" / "delta.safetensors")
    assert sphere(monkeypatch, "apply", tmp_path / "delta", "--model", other, "--to", tmp_path / "model") == 2
    error = squeezed(capsys.readouterr().err)
    assert squeezed(f"the edit was made on {made.base_digest}") in error
    data = bytearray((tmp_path / "delta" / "delta.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "delta" / "delta.safetensors").write_bytes(bytes(data))
    assert sphere(monkeypatch, "apply", tmp_path / "delta", "--model", "factworld", "--to", tmp_path / "model") == 2
    assert squeezed("do not match the digest in the header") in squeezed(capsys.readouterr().err)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which trajectory of the sweep?"),
        (["--trajectory", "nosuchid"], "unknown trajectory 'nosuchid'"),
        (["--edits", 3, "--trajectory", None], "no checkpoint after 3 edits"),
        (["--to", "."], "the folder exists already"),
    ],
)
def test_an_address_that_leaves_something_open_is_refused(
    sweep: Path,
    trajectory: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    message: str,
) -> None:
    given = [trajectory if argument is None else argument for argument in arguments]
    if "--to" in given:
        given += ["--trajectory", trajectory]
    else:
        given += ["--to", tmp_path / "model"]
    assert sphere(monkeypatch, "export", sweep, *given) == 2
    assert squeezed(message) in squeezed(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_merge_errors_are_what_rounding_takes_of_the_change() -> None:
    model = load_model("factworld", dtype="float32", device="cpu")
    (site,) = model.open_sites([1])
    base = model.base_weight(site)
    model.set_weight(site, base.to(torch.bfloat16).float() + 2.0**-20)
    found = {merge.dtype: merge for merge in merges(model)}
    moved = (model.weight(site) - base).norm()
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        lost = model.weight(site) - model.weight(site).to(dtype).float()
        assert found[name].largest == float(lost.abs().max())
        assert found[name].share == pytest.approx(float(lost.norm() / moved), rel=1e-4)
    assert found["float32"].share == 0 < found["float16"].share
    assert found["bfloat16"].change == pytest.approx(float(moved / base.norm()), rel=1e-4)
