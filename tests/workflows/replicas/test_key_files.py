"""The keys of edits: what is kept, how alike later ones are, and whether that foretells forgetting."""

import numpy as np
import pytest
import torch
from retention_parts import BATCH, CHECKPOINTS, Answers, answered_sweep, rows_of
from store_parts import trajectory
from tiny_models import CONTEXTS, LAYERS, requests, tiny_model

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.edit_keys import EditKeys, read_edit_keys
from workflows.replicas.key_files import KeyKeeper
from workflows.results.tables.key_similarity import later_similarity, stored_keys
from workflows.store.layout import keys_folder
from workflows.store.plan import SweepPlan


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, SweepPlan, Answers]:
    return answered_sweep(tmp_path_factory.mktemp("sweep"))


def random_keys(edits: list[int], seed: int) -> EditKeys:
    generator = torch.Generator().manual_seed(seed)
    keys = EditKeys(list(edits), {}, {})
    for layer in (3, 4):
        units = torch.nn.functional.normalize(torch.randn(len(edits), 8, generator=generator), dim=1)
        keys.units[layer], keys.norms[layer] = [units.half()], [torch.ones(len(edits))]
    return keys


def test_a_key_is_the_sites_input_before_the_batch() -> None:
    model, found = tiny_model("llama"), EditKeys.empty()
    found.note(model, LAYERS, 11, requests(), CONTEXTS)
    sites = model.open_sites(LAYERS)
    walk = BatchWalk(model, locate(model, requests(), CONTEXTS), sites)
    again = read_edit_keys(found.encode(), where="here")
    assert again.edits == [11, 12, 13, 14, 15]
    for site in sites:
        expected = walk.keys(site).T
        units, norms = again.units[site.layer][0], again.norms[site.layer][0]
        assert units.dtype == torch.float16
        torch.testing.assert_close(units.float() * norms[:, None], expected, rtol=2e-3, atol=2e-3 * float(norms.max()))
    assert again.encode() == found.encode()
    with pytest.raises(InputError, match="no keys of edits"):
        read_edit_keys(EditKeys.encode(found).replace(b"edits", b"stide"), where="here")


def test_an_interrupted_keeper_leaves_the_same_files(tmp_path) -> None:
    """Stops after 2 and after 4 of an interval of 5 edits, each taken up by a new keeper."""
    model, many = tiny_model("gpt2"), [*requests(), *requests()]

    def keeper(storage: Storage, resumed_at: int) -> KeyKeeper:
        return KeyKeeper(storage, "t", (5, 10), LAYERS, resumed_at)

    whole, broken = Storage(tmp_path / "whole"), Storage(tmp_path / "broken")
    steady = keeper(whole, 0)
    for done in range(10):
        steady.note(model, done, many[done : done + 1], CONTEXTS)
        if done + 1 in (5, 10):
            steady.publish(done + 1, steady.packed(done + 1))
    for start, end in ((0, 2), (2, 4), (4, 6), (6, 10)):
        fresh = keeper(broken, start)
        for done in range(start, end):
            fresh.note(model, done, many[done : done + 1], CONTEXTS)
            if done + 1 in (5, end):
                fresh.publish(done + 1, fresh.packed(done + 1))
                if done + 1 == 5:
                    # Killed here, with no checkpoint at 5 yet, it would be taken up at 4.
                    assert keeper(broken, 4)._pending.edits == [1, 2, 3, 4]
                fresh.drop_stops(done + 1)
    names = [f"{keys_folder('t')}/{edits:06d}.safetensors" for edits in (5, 10)]
    assert whole.list() == broken.list() == names
    assert all(whole.read_bytes(name) == broken.read_bytes(name) for name in names)
    assert stored_keys(broken, "t").edits == list(range(1, 11))


def test_similarity_to_later_keys_by_hand(tmp_path) -> None:
    plan, storage = trajectory("memit", 0, edits=14, wanted=CHECKPOINTS), Storage(tmp_path)
    assert later_similarity(storage, plan) is None
    keys = random_keys(list(range(1, 15)), seed=1)
    storage.write_bytes(f"{keys_folder(plan.id)}/000014.safetensors", keys.encode())
    table = later_similarity(storage, plan)
    assert table is not None
    seen = set()
    for row in table.to_pylist():
        written = -(-row["edit"] // BATCH) * BATCH
        for layer in (3, 4):
            units = keys.units[layer][0].float().numpy()
            cosines = [float(units[row["edit"] - 1] @ units[later]) for later in range(written, row["edits"])]
            assert row[f"max_cosine_layer{layer}"] == pytest.approx(max(cosines), abs=1e-6)
            assert row[f"mean_cosine_layer{layer}"] == pytest.approx(np.mean(cosines), abs=1e-6)
        seen.add((row["edit"], row["edits"]))
    expected = {(e, c) for c in CHECKPOINTS for e in range(1, 15) if -(-e // BATCH) * BATCH < c}
    assert seen == expected


def test_what_foretells_a_loss_is_one_query(sweep: tuple[Storage, SweepPlan, Answers], request) -> None:
    stats = pytest.importorskip("scipy.stats")
    storage, plan, _ = sweep
    folders = [keys_folder(one.id) for one in plan.trajectories]
    request.addfinalizer(lambda: [storage.delete(folder) for folder in folders])
    for seed, folder in enumerate(folders):
        storage.write_bytes(f"{folder}/000014.safetensors", random_keys(list(range(1, 15)), seed).encode())
    edits = [row for row in rows_of(sweep, "edits") if row["installed"] and row["kept"] is not None]
    survival = rows_of(sweep, "survival")
    assert all(row["max_cosine_layer3"] is not None for row in survival if row["age"] > 0)
    rows = rows_of(sweep, "predictors")
    names = {f"{kind}_cosine_layer{layer}" for kind in ("max", "mean") for layer in (3, 4)}
    assert {row["predictor"] for row in rows} == {"strength", "written", *names}
    for row in rows:
        z, weight, given_z, given_weight = 0.0, 0, 0.0, 0
        for seed in (0, 1):
            mine = [
                (edit[row["predictor"]], not edit["kept"], edit["written"])
                for edit in edits
                if (edit["method"], edit["seed"]) == (row["method"], seed) and edit[row["predictor"]] is not None
            ]
            x, y, age = map(list, zip(*mine, strict=True))
            if len(set(y)) == 1:
                continue
            xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, age), (y, age)))
            z, weight = z + (len(mine) - 3) * np.arctanh(xy), weight + len(mine) - 3
            if max(xz**2, yz**2) < 1 - 1e-9:
                given_z += (len(mine) - 3) * np.arctanh((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
                given_weight += len(mine) - 3
        assert row["spearman"] == pytest.approx(np.tanh(z / weight))
        expected = pytest.approx(np.tanh(given_z / given_weight)) if given_weight else None
        assert row["given_age"] == expected
        assert row["low"] < row["spearman"] < row["high"]
    assert any(row["given_age"] is not None for row in rows)
