"""Damaged files of a sweep: found by `verify`, left out by tables, repaired, and made again as they were."""

import logging
import random
import shutil
from pathlib import Path

import pytest
from local_runs import run
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from workflows.moments.check import file_faults
from workflows.results.sql.connect import connect
from workflows.results.sql.sweep_roots import SweepRoot, refuse_contradictions
from workflows.results.status.latest_scores import LastScores
from workflows.results.status.status import status_records
from workflows.results.sweep_directory import SweepDirectory
from workflows.store.row_reader import read_row_files, read_rows
from workflows.store.state import derive_state
from workflows.store.verification import Damage, repair, verify
from workflows.sweeps.expand import Sweep, load_sweep
from workflows.sweeps.publish import publish


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    folder = tmp_path_factory.mktemp("verified")
    settings = tiny(seeds=[0], methods=["alphaedit"], evaluators={"edit_quality": {}, "geometry": {}})
    sweep = load_sweep(write_sweep(folder, settings))
    assert run(sweep, folder / "root").complete
    return sweep, folder / "root"


def damaged(root: Path) -> list[Damage]:
    return list(verify(Storage(root), of_moments=file_faults))


def flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


KINDS = [
    ("rows/geometry/*.parquet", flipped),
    ("rows/edit_quality/*.parquet", halved),
    ("details/probes/*.parquet", flipped),
    ("trajectories/*/checkpoints/*/weights.safetensors", flipped),
    ("trajectories/*/checkpoints/*/state.safetensors", halved),
    ("trajectories/*/checkpoints/000006/manifest.json", halved),
    ("trajectories/*/progress.json", halved),
    ("timings/edit/*.json", halved),
    ("moments/nullspace-*.safetensors", flipped),
]


def test_a_sound_sweep_is_sound(finished: tuple[Sweep, Path]) -> None:
    counted: list[tuple[int, int]] = []
    assert list(verify(Storage(finished[1]), on_file=lambda done, total: counted.append((done, total)))) == []
    assert counted[-1][0] == counted[-1][1] == len(Storage(finished[1]).list())


def test_what_is_damaged_is_named_and_made_again(finished: tuple[Sweep, Path], tmp_path: Path) -> None:
    sweep, whole = finished
    root = shutil.copytree(whole, tmp_path / "root")
    hurt = set()
    for pattern, how in KINDS:
        path = sorted(root.glob(pattern))[0]
        path.write_bytes(how(path.read_bytes()))
        hurt.add(str(path.relative_to(root)))
    found = damaged(root)
    assert {one.path for one in found} == hurt
    assert all(one.why and one.remedy for one in found)
    for one in found:
        repair(Storage(root), one)
        repair(Storage(root), one)
    assert damaged(root) == []
    assert run(sweep, root).complete
    assert results_of(root) == results_of(whole)


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_a_row_file_is_never_another_number(finished: tuple[Sweep, Path], seed: int) -> None:
    whole = finished[1]
    choice = random.Random(seed)
    storage = Storage("memory://bits")
    paths = [path for path in Storage(whole).list() if path.startswith("rows/")]
    for path in paths:
        storage.write_bytes(path, (whole / path).read_bytes())
    hurt = choice.choice(paths)
    data = bytearray((whole / hurt).read_bytes())
    data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    storage.write_bytes(hurt, bytes(data))
    named = [one.path for one in verify(storage)]
    assert named in ([], [hurt])
    if not named:
        read, expected = (read_row_files(place, [hurt]) for place in (storage, Storage(whole)))
        assert read == expected


def test_a_file_that_storage_fails_to_deliver_is_not_damaged(
    finished: tuple[Sweep, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Storage.read_bytes

    def failing(storage: Storage, path: str) -> bytes:
        if path.endswith(".parquet"):
            raise StorageError(f"{path}: input/output error")
        return read(storage, path)

    monkeypatch.setattr(Storage, "read_bytes", failing)
    with pytest.raises(StorageError, match="input/output error"):
        list(verify(Storage(finished[1])))


def test_a_damaged_row_file_takes_no_other_rows_away(
    finished: tuple[Sweep, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep, whole = finished
    root = shutil.copytree(whole, tmp_path / "root")
    before = read_rows(Storage(root), sweep.plan).num_rows
    path = sorted(root.glob("rows/geometry/*.parquet"))[0]
    own = read_row_files(Storage(root), [str(path.relative_to(root))]).num_rows
    path.write_bytes(halved(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert read_rows(Storage(root), sweep.plan).num_rows == before - own
        # Tables, figures and queries read the files through DuckDB.
        with connect(Storage(root), sweep.plan, views=("rows",)) as connection:
            assert connection.sql("SELECT count(*) FROM rows").fetchall() == [(before - own,)]
    assert caplog.text.count(path.name) == 2
    assert "sphere verify ROOT --repair" in caplog.text


def test_status_and_several_roots_take_a_damaged_row_file_for_none(
    finished: tuple[Sweep, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = shutil.copytree(finished[1], tmp_path / "root")
    last = sorted(path for path in root.glob("rows/edit_quality/*.parquet") if not path.name.startswith("base"))[-1]
    last.write_bytes(flipped(last.read_bytes()))
    state = derive_state(Storage(root), finished[0].plan)
    with caplog.at_level(logging.WARNING):
        (record,) = status_records(state, LastScores(Storage(root)))
        assert set(record["scores"]) == {"HE drift"}
        assert caplog.text.count(last.name) == 1
        caplog.clear()
        roots = [SweepRoot.of(Storage(place), finished[0].plan) for place in (root, finished[1])]
        refuse_contradictions(roots)
        rows = SweepDirectory(roots).sql("SELECT count(*) AS n FROM scores").to_pylist()
    assert last.name in caplog.text
    assert rows[0]["n"] > 0


def test_records_that_no_run_makes_again_are_not_removed(finished: tuple[Sweep, Path], tmp_path: Path) -> None:
    root = shutil.copytree(finished[1], tmp_path / "root")
    for path in (root / "plan.json", *root.glob("trajectories/*/attempts/*.json")):
        path.write_bytes(b"{")
    found = damaged(root)
    assert {Path(one.path).name for one in found} == {"plan.json", "0001.json"}
    assert not any(one.removes for one in found)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.safetensors"])
def test_a_checkpoint_with_some_of_its_files_is_damaged_and_one_without_any_is_trimmed(
    finished: tuple[Sweep, Path], tmp_path: Path, name: str
) -> None:
    root = shutil.copytree(finished[1], tmp_path / "root")
    folder = next(root.glob("trajectories/*/checkpoints/*"))
    (folder / name).unlink()
    (damage,) = damaged(root)
    assert damage.path.endswith("manifest.json")
    assert name in damage.why
    assert damage.removes
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert not damaged(root)


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["src/plan.py"]])
def test_a_folder_that_holds_no_sweep_is_not_sound(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="no sweep here"):
        damaged(tmp_path)


@pytest.mark.parametrize("kind", ["file://", "memory://"])
def test_second_moments_are_checked_on_every_kind_of_storage(
    finished: tuple[Sweep, Path], tmp_path: Path, kind: str
) -> None:
    storage = Storage(f"{kind}{tmp_path}/moments-alone")
    path = next(path for path in Storage(finished[1]).list("moments") if path.endswith(".safetensors"))
    data = Storage(finished[1]).read_bytes(path)
    storage.write_bytes(path, data)
    assert list(verify(storage, of_moments=file_faults)) == []
    storage.write_bytes(path, flipped(data))
    assert [one.path for one in verify(storage, of_moments=file_faults)] == [path]


def test_a_damaged_lease_costs_no_edits(finished: tuple[Sweep, Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished[1], root)
    (folder,) = (file.parent for file in root.glob("trajectories/*/*.json") if file.name == "lease.json")
    (folder / "lease.json").write_text('{"attempt"', encoding="utf-8")
    (damage,) = damaged(root)
    assert "remove this file" in damage.remedy
    (folder / "lease.json").unlink()
    assert not damaged(root)


def test_a_specification_with_another_value_is_damage_and_the_edits_stay(
    finished: tuple[Sweep, Path], tmp_path: Path
) -> None:
    sweep, source = finished
    root = tmp_path / "root"
    shutil.copytree(source, root)
    publish(sweep, Storage(root))
    (file,) = root.glob("trajectories/*/spec.json")
    whole = file.read_text(encoding="utf-8")
    for changed in (whole.replace('"v_lr": ', '"v_lr": 1'), whole.replace('"v_lr"', '"v_lq"')):
        assert changed != whole
        file.write_text(changed, encoding="utf-8")
        (damage,) = damaged(root)
        assert damage.path == str(file.relative_to(root))
        assert not damage.removes
        assert "remove this file" in damage.remedy
        file.unlink()
        publish(sweep, Storage(root))
        assert file.read_text(encoding="utf-8") == whole
        assert not damaged(root)
