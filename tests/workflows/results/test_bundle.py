"""A bundle: equal bytes wherever the sweep is, read by every command and by `datasets`, refused if it is not sound."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from figure_parts import LAST, METHODS, PUBLISHED, SEEDS, drawn_sweep, efficacy, leave_one_method

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.bundle.archive import write_archive
from workflows.results.bundle.copied import copy_sweep
from workflows.results.bundle.make import BundleAsk, make_bundle
from workflows.results.figures.contract import FigureAsk
from workflows.results.report.chapter import ReportAsk
from workflows.results.report.page import report_page
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.sweep_directory import open_sweep
from workflows.store.layout import PLAN_FILE, SWEEP_FILE
from workflows.store.plan import SweepPlan
from workflows.store.verification import verify

REPORT = ReportAsk(FigureAsk("argmax", "rewrite", "argmax", against="he_drift"), tolerance=0.02, lost=5)
ASK = BundleAsk(REPORT, details=True, figures=("scores", "energy"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one method with scores of edit quality alone, so that few figures are drawn; weights lie in it."""
    folder = tmp_path_factory.mktemp("bundled") / "one"
    drawn_sweep(folder)
    scored = leave_one_method(folder)
    (folder / SWEEP_FILE).write_text("name: drawn\n", encoding="utf-8")
    weights = folder / "trajectories" / scored[0].id / "checkpoints" / f"{LAST:06d}" / "weights.safetensors"
    weights.write_bytes(b"tensors")
    return folder


@pytest.fixture(scope="module")
def archive(root: Path) -> Path:
    out = root.parent / "drawn.tar.gz"
    assert "report.html" in make_bundle(str(root), out, ASK)
    return out


@pytest.fixture(scope="module")
def unpacked(archive: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(archive.parent / "unpacked", filter="data")
    return archive.parent / "unpacked" / "drawn"


def test_equal_sweeps_give_equal_bytes_wherever_they_are(root: Path, unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere")
    (tmp_path / "out").mkdir()
    names = make_bundle(str(tmp_path / "elsewhere"), tmp_path / "out", ASK)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == {
        path.relative_to(unpacked).as_posix(): path.read_bytes() for path in unpacked.rglob("*") if path.is_file()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]
    with pytest.raises(InputError, match="holds something already"):
        make_bundle(str(root), tmp_path / "out", ASK)


def test_an_archive_depends_on_its_files_alone(unpacked: Path, archive: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked, tmp_path / unpacked.name, copy_function=shutil.copyfile)
    for path in (tmp_path / unpacked.name).rglob("*"):
        path.chmod(0o700)
    write_archive(tmp_path / unpacked.name, tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_the_unpacked_sweep_gives_the_same_table_and_report(root: Path, unpacked: Path) -> None:
    tables = [open_sweep(root=str(place)).table(by="edits") for place in (root, unpacked / "sweep")]
    assert tables[0].equals(tables[1])
    page = (unpacked / "report.html").read_text(encoding="utf-8")
    assert report_page(open_roots([str(unpacked / "sweep")]), REPORT, shown=("sweep",))[0] == page
    assert str(root) not in page
    assert open_roots([str(unpacked / "sweep")])[0].state.is_complete


def test_it_holds_what_others_check_and_no_tensors(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {f"tables/main.{form}" for form in ("md", "tex", "csv", "html")} <= names
    assert {"figures/scores.pdf", "figures/scores.csv", "sweep/sweep.yaml", "environment.txt"} <= names
    assert not [name for name in names if name.endswith(".safetensors")]
    # The specifications of these generated rows are stand-ins, which no digest can match.
    assert [one.path for one in verify(Storage(unpacked / "sweep")) if not one.path.endswith("/spec.json")] == []
    sums = dict(reversed(line.split("  ")) for line in (unpacked / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == names - {"SHA256SUMS"}
    assert all(hashlib.sha256((unpacked / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    readme = (unpacked / "README.md").read_text(encoding="utf-8")
    assert "--set 'seeds=[0, 1, 2]'" in readme
    assert "geometry (" not in readme.split("Figures that the rows do not allow")[0]
    papers = yaml.safe_load((unpacked / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert [one["title"] for one in papers][1:] == ["arXiv 2210.07229"]
    assert "pyarrow==" in (unpacked / "environment.txt").read_text(encoding="utf-8")


def test_datasets_reads_the_folder(unpacked: Path, tmp_path: Path) -> None:
    scores = load_dataset(str(unpacked), cache_dir=str(tmp_path))["train"]
    found = {(row["seed"], row["edits"]): row["value"] for row in scores if row["metric"] == "efficacy"}
    assert found == {(seed, edits): efficacy(METHODS[0][0], seed, edits) for seed, edits in found}
    assert len(found) == 4 * len(SEEDS)
    assert "root" not in scores.column_names
    trajectories = load_dataset(str(unpacked), "trajectories", split="train", cache_dir=str(tmp_path))
    assert trajectories["seed"] == list(SEEDS)


def test_details_of_the_rows_go_along_unless_left_out(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "with"
    shutil.copytree(root, copy)
    shutil.copytree(root.parent / "details", copy / "details")
    for wanted in (True, False):
        (opened,) = open_roots([str(copy)])
        copy_sweep(opened, tmp_path / str(wanted), details=wanted)
        found = [path.parent.name for path in (tmp_path / str(wanted)).rglob("details/*/*")]
        # Those of the trajectories of the plan: the directory holds four methods.
        assert sorted(found) == (["probe_texts"] * len(SEEDS) + ["probes"] * 4 * len(SEEDS) if wanted else [])


def test_a_damaged_row_file_stops_it_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    rows = sorted((copy / "rows" / "edit_quality").glob("m0*"))[0]
    data = bytearray(rows.read_bytes())
    data[len(data) // 2] ^= 1
    rows.write_bytes(data)
    with pytest.raises(InputError, match="damaged") as caught:
        make_bundle(str(copy), tmp_path / "out.tar.gz", ASK)
    assert rows.name in str(caught.value.where)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    with pytest.raises(InputError, match="cannot be written"):
        make_bundle(str(root), tmp_path / "nowhere" / "out.tar.gz", ASK)


def test_published_values_are_kept(unpacked: Path) -> None:
    plan = SweepPlan.model_validate_json((unpacked / "sweep" / PLAN_FILE).read_bytes())
    assert plan.published[0].values["alphaedit <b>"] == (PUBLISHED,)
