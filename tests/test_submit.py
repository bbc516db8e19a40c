"""Submitting a sweep: to whom, what travels along, and the whole way through a real Jobs API on loopback."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import sphere
from ray_head import ray_head
from sweep_files import results_of, tiny, write_sweep

from sphere_core.errors import InputError
from workflows.jobs import check_address
from workflows.package import pack
from workflows.submit import plan_submission

REPOSITORY = Path(__file__).resolve().parent.parent
LONGER = tiny(
    methods=["alphaedit+sphere"],
    seeds=[0],
    streams=[{"dataset": "factworld", "edits": 100, "order": "shuffled"}],
    checkpoint_every=20,
    evaluators={"geometry": {}},
)


@pytest.mark.parametrize(
    ("address", "environment", "insecure", "refused"),
    [
        ("http://10.0.0.5:8265", {}, False, "there is no token"),
        ("http://head.example.org:8265", {}, False, "there is no token"),
        ("http://10.0.0.5:8265", {"RAY_AUTH_TOKEN": "t" * 32}, False, None),
        ("http://10.0.0.5:8265", {}, True, None),
        ("http://127.0.0.1:8265", {}, False, None),
        ("http://localhost:8265", {}, False, None),
        ("http://[::1]:8265", {}, False, None),
        ("https://ray.example.org", {}, False, None),
        ("10.0.0.5:8265", {}, False, "not the address"),
        ("ray://10.0.0.5:10001", {}, True, "not the address"),
    ],
)
def test_submit_talks_to_strangers_only_with_a_token(
    tmp_path: Path, address: str, environment: dict[str, str], insecure: bool, refused: str | None
) -> None:
    surroundings = {"HOME": str(tmp_path), **environment}
    if refused is None:
        check_address(address, surroundings, insecure=insecure)
        return
    with pytest.raises(InputError, match=refused):
        check_address(address, surroundings, insecure=insecure)


def test_a_submission_is_named_by_its_files_and_its_root(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(contexts={"file": "contexts.json"}))
    (tmp_path / "contexts.json").write_text('[["{}"]]', encoding="utf-8")
    first = plan_submission(path, "s3://bucket/a")
    assert first == plan_submission(path, "s3://bucket/a")
    assert first.name.startswith("sphere-tiny-")
    assert first.name != plan_submission(path, "s3://bucket/b").name
    assert first.entrypoint == ("exec python -m workflows.cli run sweep/sweep.yaml --address auto --root s3://bucket/a")
    (tmp_path / "contexts.json").write_text('[["The. {}"]]', encoding="utf-8")
    assert first.name != plan_submission(path, "s3://bucket/a").name
    with pytest.raises(InputError, match="is relative"):
        plan_submission(path, "runs/tiny")


def test_a_faulty_sweep_is_not_submitted(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(batch_sise=3))
    with pytest.raises(InputError, match="batch_sise"):
        plan_submission(path, "s3://bucket/a")


def test_a_job_takes_along_the_code_and_what_the_sweep_names(tmp_path: Path) -> None:
    files = {
        "data/facts.json": "[]",
        "data/unused.json": "[]",
        "study/tasks/quiz.yaml": "task: quiz",
        "study/tasks/quiz.jsonl": "{}",
        "study/tasks/.secret": "",
        "study/model/config.json": "{}",
        "study/runs/tiny/plan.json": "{}",
        "study/memit/readme.txt": "not a method",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    settings = tiny(
        models=[{"source": "model", "dtype": "float32", "preset": "factworld"}],
        streams=[{"dataset": "counterfact", "path": "../data/facts.json", "edits": 6, "order": "canonical"}],
        evaluators={"general": {"tasks": ["tasks/quiz.yaml", "factworld"]}},
    )
    package = pack(write_sweep(tmp_path / "study", settings))
    package.write(tmp_path / "package")
    shipped = {path.relative_to(tmp_path / "package").as_posix() for path in (tmp_path / "package").rglob("*.*")}
    assert {name for name in shipped if name.startswith("sweep/")} == {
        "sweep/data/facts.json",
        "sweep/study/model/config.json",
        "sweep/study/sweep.yaml",
        "sweep/study/tasks/quiz.jsonl",
        "sweep/study/tasks/quiz.yaml",
    }
    assert package.entry == "sweep/study/sweep.yaml"
    # The code is whole: the packages of the repository with their data, and nothing that Python left behind.
    code = {
        path.relative_to(REPOSITORY).as_posix()
        for name in ("sphere_core", "evaluators", "workflows")
        for path in (REPOSITORY / name).rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in shipped if not name.startswith("sweep/")} >= code
    assert not [name for name in shipped if "__pycache__" in name]


def test_large_files_belong_on_shared_storage(tmp_path: Path) -> None:
    with (tmp_path / "facts.json").open("wb") as sparse:
        sparse.truncate(300 << 20)
    stream = {"dataset": "counterfact", "path": "facts.json", "edits": 6, "order": "canonical"}
    with pytest.raises(InputError, match="come to 300 MiB") as caught:
        pack(write_sweep(tmp_path, tiny(streams=[stream])))
    assert str(caught.value.where).endswith("facts.json")


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    with ray_head(cpus=1) as started:
        yield started.jobs


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_sweep_is_submitted_once_stopped_and_goes_on(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        return sphere(monkeypatch, *arguments), capsys.readouterr().out

    path, root = write_sweep(tmp_path, LONGER), tmp_path / "root"
    submit = ("submit", path, "--address", head, "--root", root)
    with pytest.raises(urllib.error.HTTPError) as unauthorised:
        urllib.request.urlopen(f"{head}/api/jobs/", timeout=10)
    assert unauthorised.value.code == 401

    code, said = run(*submit)
    assert code == 0, said
    job = said.split()[1]
    assert job.endswith("-1")
    assert f"already submitted: {job}" in run(*submit)[1]

    deadline = time.monotonic() + 120
    while not list(root.glob("trajectories/*/checkpoints/*/manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert f"{job}: STOPPED" in run("stop", path, "--address", head)[1]
    progress = [json.loads(file.read_text()) for file in root.glob("trajectories/*/progress.json")]
    assert [record["state"] for record in progress] == ["stopped"]
    assert 0 < progress[0]["edits"] < 100

    code, said = run(*submit, "--follow")
    assert code == 0, said
    assert f"submitted: {job.removesuffix('1')}2" in said
    assert "| alphaedit+sphere |" in said
    assert run("run", path, "--local", "--root", tmp_path / "quiet")[0] == 0
    assert results_of(root) == results_of(tmp_path / "quiet") != {}
    assert "has ended already: SUCCEEDED" in run("stop", path, "--address", head)[1]


@pytest.mark.ray
@pytest.mark.parametrize("token", [None, "f" * 64])
def test_without_the_token_nothing_is_told(head: str, tmp_path: Path, token: str | None) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    del environment["RAY_AUTH_TOKEN"]
    if token is not None:
        (tmp_path / "token").write_text(token, encoding="utf-8")
        environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "token")
    command = [sys.executable, "-m", "workflows.cli", "stop", "sphere-tiny-1", "--address", head]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ("refuses the one here" if token else "there is none here") in done.stderr
