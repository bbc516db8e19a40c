"""`sphere moments`: built into a store, killed and gone on with, in shards, listed, verified, imported, compared."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import sphere, squeezed
from repository import REPOSITORY

from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.models import load_model
from sphere_core.moments.files import read_moments
from sphere_core.moments.headers import read_header
from workflows.moments.corpus_texts import corpus_texts, find_corpus

TEXTS = [f"Text {number} tells of the town {number % 7} and of its {number % 5} mills." for number in range(900)]
FACTWORLD = ("moments", "build", "factworld", "--layers", "0,1", "--max-tokens", 32)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPHERE_MOMENTS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same texts in a text file, as JSON lines and as Parquet."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "texts.txt").write_text("\n".join(TEXTS[:500]) + "\n\n" + "\n".join(TEXTS[500:]), encoding="utf-8")
    rows = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS))
    (folder / "texts.jsonl").write_text(rows, encoding="utf-8")
    pq.write_table(pa.table({"text": TEXTS}), folder / "texts.parquet", row_group_size=100)
    return folder


def digest_of(store: Path) -> str:
    (folder,) = (path for path in store.iterdir() if path.is_dir() and path.name != "locks")
    return read_moments(folder).digest


def test_every_kind_of_file_holds_the_same_corpus(
    store: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = set()
    for name in ("texts.txt", "texts.jsonl", "texts.parquet"):
        at = tmp_path / name
        assert sphere(monkeypatch, *FACTWORLD, "--corpus", corpus / name, "--tokens", 3000, "--store", at) == 0
        digests.add(digest_of(at))
    assert len(digests) == 1
    assert "moments: {stored:" in capsys.readouterr().out


def test_built_once_listed_verified_and_used(
    store: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--corpus", corpus / "texts.txt", "--tokens", 3000)
    assert sphere(monkeypatch, "moments", "build", "factworld", "--layers", "0", "--max-tokens", 32, *asked) == 0
    (first,) = store.glob("*/layer0.safetensors")
    stamp = first.stat().st_mtime_ns
    # The second layer is added; the first is not made again.
    assert sphere(monkeypatch, *FACTWORLD, *asked) == 0
    assert first.stat().st_mtime_ns == stamp
    assert sphere(monkeypatch, *FACTWORLD, *asked) == 0
    assert "it is there already" in capsys.readouterr().out
    header = read_header(first)
    assert header.count == 3000
    made_of = header.provenance
    assert made_of["site"] == "model.layers.0.mlp.down_proj.weight"
    assert made_of["corpus_name"] == "texts.txt"
    assert made_of["key"] == first.parent.name
    assert {"model_digest", "tokenizer_digest", "dtype", "amount", "max_tokens_per_text", "packing"} <= made_of.keys()

    assert sphere(monkeypatch, "moments", "list") == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in (first.parent.name, "factworld", "layers 0, 1", "texts.txt", "3,000"))
    assert sphere(monkeypatch, "moments", "list", "--json") == 0
    (record,) = json.loads(capsys.readouterr().out)["sets"]
    sizes = sum(path.stat().st_size for path in first.parent.iterdir())
    assert (record["layers"], record["tokens"], record["bytes"]) == ([0, 1], 3000, sizes)
    assert (record["model"], record["dtype"]) == (made_of["model"], made_of["dtype"])
    assert sphere(monkeypatch, "moments", "verify") == 0
    assert sphere(monkeypatch, "moments", "verify", first.parent.name[:6]) == 0
    capsys.readouterr()
    assert sphere(monkeypatch, "moments", "verify", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "sound": True,
        "files": [{"path": str(path), "faults": []} for path in sorted(first.parent.glob("layer*"))],
    }
    data = bytearray(first.read_bytes())
    data[-100] ^= 1
    first.write_bytes(data)
    assert sphere(monkeypatch, "moments", "verify") == 1
    assert "the numbers have changed" in squeezed_words(capsys.readouterr().out)
    assert sphere(monkeypatch, "moments", "verify", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["sound"]
    assert [one["path"] for one in found["files"] if one["faults"]] == [str(first)]
    first.write_bytes(bytes(data[: len(data) // 2]))
    assert sphere(monkeypatch, "moments", "verify", first) == 1
    assert "a file of second moments cannot be read" in squeezed_words(capsys.readouterr().out)
    assert not list(store.glob(".*")), "what a pass keeps on its way goes when the set stands"


def squeezed_words(text: str) -> str:
    return " ".join(text.split())


# The command, killed when it has written down the sums of the texts so far.
KILLED_ONCE_KEPT = """
import os, signal
from sphere_core.moments.sums import KeptInFile
from workflows.cli import main

keep = KeptInFile.keep

def keep_and_die(kept, running):
    keep(kept, running)
    os.kill(os.getpid(), signal.SIGKILL)

KeptInFile.keep = keep_and_die
main()
"""


def test_killed_anywhere_the_same_command_gives_equal_bits(
    store: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(at: Path) -> list[str]:
        options = [*FACTWORLD, "--corpus", corpus / "texts.txt", "--sentences", 900, "--save-every", 0, "--store", at]
        return [sys.executable, "-m", "workflows.cli", *map(str, options)]

    # Windows of 512 texts: the sums are kept once before the end.
    killed = subprocess.run([sys.executable, "-c", KILLED_ONCE_KEPT, *command(store)[3:]], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(store.glob(".*-partial.safetensors"))
    assert not list(store.glob("*/layer*.safetensors"))
    for at in (store, tmp_path / "undisturbed"):
        assert sphere(monkeypatch, *command(at)[3:]) == 0
    assert digest_of(store) == digest_of(tmp_path / "undisturbed")


@pytest.mark.ray
def test_two_shards_add_up_to_the_bits_of_one(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = (*FACTWORLD[:5], "--corpus", "factworld", "--sentences", 2500)  # five groups
    assert sphere(monkeypatch, *build, "--shards", 2) == 0
    assert sphere(monkeypatch, *build, "--store", tmp_path / "alone") == 0
    assert digest_of(store) == digest_of(tmp_path / "alone")
    assert not list(store.glob(".*"))


def test_statistics_and_projectors_of_others_are_imported(
    store: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, *FACTWORLD, "--corpus", corpus / "texts.txt", "--tokens", 3000) == 0
    ours = read_moments(next(path.parent for path in store.glob("*/layer*.safetensors")))
    for layer, moment in ours.by_layer.items():
        # As MEMIT's runningstats writes it: the raw fp32 sum, the count, the name of a constructor.
        np.savez(
            tmp_path / f"model.layers.{layer}.mlp.down_proj_float32_mom2_100000.npz",
            **{
                "mom2.constructor": "util.runningstats.SecondMoment()",
                "mom2.count": 3000,
                "mom2.mom2": (moment * 3000).float().numpy(),
                "sample_size": 100000,
            },
        )
    files = sorted(tmp_path.glob("*.npz"))
    capsys.readouterr()
    assert sphere(monkeypatch, "moments", "import", *files, "--model", "factworld") == 0
    key = capsys.readouterr().out.split("stored: ")[1].split("}")[0]
    theirs = read_moments(store / key)
    assert theirs.count == 3000
    for layer, moment in ours.by_layer.items():
        assert float((theirs.by_layer[layer] - moment).norm() / moment.norm()) < 1e-6
    (own,) = (path.name for path in store.iterdir() if path.name not in (key, "locks"))
    assert sphere(monkeypatch, "moments", "compare", own, key, "--threshold", "1e-3") == 0
    assert "1.0000" in capsys.readouterr().out
    assert sphere(monkeypatch, "moments", "compare", own, key, "--threshold", "1e-3", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["first"], record["second"], record["threshold"]) == (own, key, 1e-3)
    assert record["same_model"] is True
    assert [one["layer"] for one in record["layers"]] == list(ours.layers)
    assert all(one["relative"] < 1e-6 and one["overlap"] == pytest.approx(1) for one in record["layers"])

    renamed = tmp_path / "transformer.h.0.mlp.c_proj_float32_mom2_100000.npz"
    files[0].rename(renamed)
    assert sphere(monkeypatch, "moments", "import", renamed, "--model", "factworld") == 2
    assert "names no editable module" in squeezed_words(capsys.readouterr().err)


def test_an_imported_projector_is_the_null_space_alphaedit_edits_in(
    store: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model("factworld", dtype="float32", device="cpu")
    width = model.open_sites([0])[0].d_in
    basis = torch.linalg.qr(torch.randn(width, 7, generator=torch.Generator().manual_seed(0))).Q
    path = tmp_path / "null_space_project.pt"
    torch.save(torch.stack([torch.eye(width) - basis @ basis.T] * 2), path)
    assert sphere(monkeypatch, "moments", "import", path, "--model", "factworld", "--layers", "0,1") == 0
    found = read_moments(next(path.parent for path in store.glob("*/layer*.safetensors"))).null_spaces[1]
    assert found.complement
    assert found.dimension == width - 7
    columns = torch.randn(width, 3, dtype=torch.float64)
    wide = basis.double()
    assert torch.allclose(found.project(columns), columns - wide @ (wide.T @ columns), atol=1e-5)
    assert sphere(monkeypatch, "moments", "import", path, "--model", "factworld", "--layers", "0") == 2
    torch.save(torch.stack([torch.eye(width) * 0.5]), path)
    assert sphere(monkeypatch, "moments", "import", path, "--model", "factworld", "--layers", "0") == 2
    assert "not a projector" in squeezed_words(capsys.readouterr().err)
    # A pickle of anything but tensors is refused unread.
    torch.save(tmp_path, path)
    assert sphere(monkeypatch, "moments", "import", path, "--model", "factworld", "--layers", "0") == 2
    assert "not a file of tensors" in squeezed_words(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--corpus", "no.txt", "--tokens", 10), "corpus file not found"),
        (("--corpus", "nobody/nothing", "--tokens", 10), "neither a local file nor a data set"),
        (("--corpus", "wikimedia/wikipedia", "--tokens", 10), "offline, give local text"),
        (("--tokens", 10), "'wikimedia/wikipedia' is neither a local file nor"),
        (("--corpus", "texts.jsonl", "--field", "body", "--tokens", 10), "no text in the field 'body'"),
        (("--corpus", "texts.parquet", "--field", "body", "--tokens", 10), "no column 'body'"),
        (("--corpus", "texts.txt", "--tokens", 10, "--sentences", 3), "either a number of tokens or"),
        (("--corpus", "texts.txt", "--sentences", 901), "the corpus has 900 texts"),
        (("--corpus", "texts.txt", "--tokens", 1_000_000), "the corpus ends after 900 texts"),
        (("--corpus", "texts.txt", "--tokens", 10, "--max-tokens", 100_000), "positions"),
        (("--corpus", "texts.txt", "--tokens", 10, "--layers", "7"), "layer"),
        (("--corpus", "texts.txt", "--tokens", 10, "--dtype", "int8"), "dtype"),
    ],
)
def test_what_cannot_be_built_is_explained(
    store: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    said: str,
) -> None:
    monkeypatch.chdir(corpus)
    assert sphere(monkeypatch, *FACTWORLD, *options) == 2
    assert squeezed(said) in squeezed(capsys.readouterr().err)
    assert not list(store.glob("*/*"))


def test_a_data_set_of_many_files_is_read_in_turn(tmp_path: Path) -> None:
    """The streaming road of a hub data set, on a repository that lies in a local folder."""
    for part in range(3):
        pq.write_table(pa.table({"text": [f"{part}-{n}" for n in range(2 + part)]}), tmp_path / f"train-{part}.parquet")
    found = find_corpus(["owner/name"], folder=tmp_path, revision="a" * 40)
    local = found.model_copy(update={"repository": str(tmp_path), "revision": None})
    assert list(corpus_texts(local)) == ["0-0", "1-0", "2-0", "0-1", "1-1", "2-1", "1-2", "2-2", "2-3"]
    assert found.identity() == {"hub": "owner/name", "config": None, "revision": "a" * 40, "field": "text"}
    pinned = find_corpus(["wikimedia/wikipedia"], folder=tmp_path, asks_hub=False)
    assert pinned.config == "20231101.en"
    assert pinned.revision is not None


def test_moments_of_another_model_are_refused_by_both_digests(
    store: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, *FACTWORLD, "--corpus", corpus / "texts.txt", "--tokens", 3000) == 0
    other = tmp_path / "other"
    other.mkdir()
    for path in shipped_model_dir().iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["post_processor"] = None
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (tmp_path / "facts.json").write_text("[]", encoding="utf-8")
    sweep = {
        "name": "other",
        "models": [{"source": str(other), "dtype": "float32", "preset": "factworld"}],
        "streams": [{"dataset": "factworld", "edits": 4}],
        "methods": ["alphaedit"],
        "seeds": [0],
        "batch_size": 2,
        "checkpoint_every": 2,
        "moments": {"stored": next(path.parent for path in store.glob("*/layer*.safetensors")).name},
        "evaluators": {"geometry": {}},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep), encoding="utf-8")
    capsys.readouterr()
    assert sphere(monkeypatch, "plan", tmp_path / "sweep.yaml") == 2
    said = squeezed(capsys.readouterr().err)
    assert squeezed("of another model or tokenizer") in said
    assert read_header(next(store.glob("*/layer0.safetensors"))).provenance["model_digest"][:16] in said
