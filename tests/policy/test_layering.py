"""Who may import whom: workflows -> evaluators -> sphere_core, and inside each package room by room; without cycles,
at the top of the file."""

from graphlib import TopologicalSorter

import pytest
from import_rules import (
    PACKAGES,
    Import,
    all_imports,
    first_cycle,
    forbidden_edges,
    hidden_imports,
    room_edges,
    star_imports,
    strayed_imports,
    top,
    unlisted_edges,
)
from repository import REPOSITORY

# Room to rooms of the same package. A room is a folder of a package, or a file at its root. A new edge is added here
# on purpose, and only where it keeps the arrows pointing one way; an edge that nothing uses any more is taken out.
ROOMS = {
    "sphere_core.checkpoint_files": "foundation",
    "sphere_core.checkpoints": "checkpoint_files foundation models numerics",
    "sphere_core.conformance": "checkpoints editors foundation hyperparameters locate methods models moments plugins "
    "requests streams trajectory",
    "sphere_core.conformance_of_inputs": "conformance datasets foundation locate models numerics",
    "sphere_core.costs": "foundation hyperparameters locate methods models moments numerics plugins requests solver "
    "tuning",
    "sphere_core.datasets": "foundation plugins requests",
    "sphere_core.editors": "checkpoints foundation hyperparameters locate models numerics regularizers requests solver "
    "tuning",
    "sphere_core.entry": "foundation",
    "sphere_core.export": "foundation models numerics",
    "sphere_core.hyperparameters": "foundation",
    "sphere_core.locate": "foundation hyperparameters models requests",
    "sphere_core.methods": "editors foundation hyperparameters locate moments numerics plugins regularizers solver "
    "tuning",
    "sphere_core.models": "datasets foundation hyperparameters numerics plugins",
    "sphere_core.moments": "foundation locate models numerics",
    "sphere_core.numerics": "foundation",
    "sphere_core.plugins": "foundation",
    "sphere_core.preparation": "checkpoints costs editors locate methods models moments requests trajectory "
    "trajectory_spec",
    "sphere_core.regularizers": "checkpoints foundation models numerics",
    "sphere_core.requests": "foundation",
    "sphere_core.solver": "checkpoints foundation numerics",
    "sphere_core.streams": "datasets foundation locate models plugins requests",
    "sphere_core.trajectory": "checkpoints editors hyperparameters locate models numerics requests",
    "sphere_core.trajectory_spec": "foundation hyperparameters locate models moments plugins streams tuning",
    "sphere_core.tuning": "checkpoints foundation hyperparameters locate models numerics",
    "evaluators.conformance": "base plugins",
    "evaluators.edit_quality": "base statistics",
    "evaluators.general": "base statistics",
    "evaluators.geometry": "base",
    "evaluators.plugins": "base",
    "evaluators.registry": "base edit_quality general geometry plugins",
    "workflows.api": "results runs",
    "workflows.cli": "terminal",
    "workflows.cluster": "driver replicas store sweeps",
    "workflows.commands": "cluster moments preflight results runs store sweeps terminal",
    "workflows.driver": "replicas store sweeps terminal",
    "workflows.moments": "store",
    "workflows.preflight": "sweeps terminal",
    "workflows.replicas": "moments store tuning",
    "workflows.results": "store terminal",
    "workflows.runs": "cluster driver moments replicas results store sweeps terminal",
    "workflows.sweeps": "moments store tuning",
    "workflows.tuning": "moments store",
}


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return all_imports(REPOSITORY)


def test_packages_are_there() -> None:
    missing = [name for name in PACKAGES if not (REPOSITORY / name / "__init__.py").is_file()]
    assert missing == []


def test_imports_point_one_way(imports: list[Import]) -> None:
    assert forbidden_edges(imports) == []


def test_rooms_import_only_the_rooms_that_the_table_allows(imports: list[Import]) -> None:
    assert unlisted_edges(imports, ROOMS) == []


def test_the_table_of_rooms_holds_no_edge_that_is_not_there(imports: list[Import]) -> None:
    there = room_edges(imports)
    listed = {(start, f"{top(start)}.{end}") for start, ends in ROOMS.items() for end in ends.split()}
    assert listed - there.keys() == set()


def test_arrows_between_rooms_point_one_way() -> None:
    graph = {start: {f"{top(start)}.{end}" for end in ends.split()} for start, ends in ROOMS.items()}
    TopologicalSorter(graph).prepare()


def test_ray_and_the_harness_are_each_imported_in_one_room(imports: list[Import]) -> None:
    assert strayed_imports(imports) == []


def test_no_first_party_import_inside_a_function(imports: list[Import]) -> None:
    assert hidden_imports(imports) == []


def test_no_star_import(imports: list[Import]) -> None:
    assert star_imports(imports) == []


def test_no_import_cycle(imports: list[Import]) -> None:
    assert first_cycle(imports) == []
