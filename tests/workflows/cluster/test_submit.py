"""Submitting a sweep: to whom, what travels along, and the whole way through a real Jobs API on loopback."""

import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
import requests
from breakable_link import breakable_link
from command_line import sphere
from ray_head import ray_head
from repository import REPOSITORY
from rich.console import Console
from sweep_files import results_of, tiny, write_sweep
from waiting import wait_until

from sphere_core.foundation.errors import InputError
from workflows.cluster.environment import prepare_client_environment
from workflows.cluster.jobs import FINISHED, check_address, connect, follow_job, jobs_of
from workflows.cluster.submit import plan_submission, submit_once

LONGER = tiny(
    methods=["alphaedit+sphere"],
    seeds=[0],
    streams=[{"dataset": "factworld", "edits": 60, "order": "shuffled"}],
    checkpoint_every=10,
    evaluators={"geometry": {}},
)


@pytest.mark.parametrize(
    ("address", "environment", "insecure", "refused"),
    [
        ("http://10.0.0.5:8265", {}, False, "there is no token"),
        ("http://head.example.org:8265", {}, False, "there is no token"),
        ("http://10.0.0.5:8265", {"RAY_AUTH_TOKEN": "t" * 32}, False, None),
        ("http://10.0.0.5:8265", {"RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "Token"}, False, None),
        ("http://10.0.0.5:8265", {"RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "disabled"}, False, "sends no token"),
        ("http://10.0.0.5:8265", {"RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": ""}, False, "sends no token"),
        ("http://10.0.0.5:8265", {"RAY_AUTH_TOKEN": " "}, False, "there is no token"),
        ("http://10.0.0.5:8265", {}, True, None),
        ("http://127.0.0.1:8265", {}, False, None),
        ("http://localhost:8265", {}, False, None),
        ("http://[::1]:8265", {}, False, None),
        ("https://ray.example.org", {}, False, None),
        ("10.0.0.5:8265", {}, False, "not the address"),
        ("ray://10.0.0.5:10001", {}, True, "not the address"),
    ],
)
def test_submit_contacts_other_machines_only_with_a_token(
    tmp_path: Path, address: str, environment: dict[str, str], insecure: bool, refused: str | None
) -> None:
    surroundings = {"HOME": str(tmp_path), **environment}
    if refused is None:
        check_address(address, surroundings, insecure=insecure)
        return
    with pytest.raises(InputError, match=refused):
        check_address(address, surroundings, insecure=insecure)


@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.parametrize("named", [True, False])
def test_an_empty_token_file_is_no_token(tmp_path: Path, text: str, named: bool) -> None:
    path = tmp_path / ("token" if named else ".ray/auth_token")
    path.parent.mkdir(exist_ok=True)
    environment = {"HOME": str(tmp_path), **({"RAY_AUTH_TOKEN_PATH": str(path)} if named else {})}
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"the token file .* is empty"):
        check_address("http://10.0.0.5:8265", environment, insecure=False)
    prepare_client_environment(environment)
    assert "RAY_AUTH_MODE" not in environment
    path.write_text("t" * 32, encoding="utf-8")
    check_address("http://10.0.0.5:8265", environment, insecure=False)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        check_address("http://10.0.0.5:8265", environment, insecure=False)


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


def test_values_from_the_command_line_are_another_job(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    (tmp_path / "contexts.json").write_text('[["{}"]]', encoding="utf-8")
    plain = plan_submission(path, "s3://bucket/a")
    changed = plan_submission(path, "s3://bucket/a", overrides=["contexts.file=contexts.json", "seeds=[0, 1]"])
    assert changed.name != plain.name
    assert changed.entrypoint == f"{plain.entrypoint} --set contexts.file=contexts.json --set 'seeds=[0, 1]'"
    assert tmp_path / "contexts.json" in changed.package.files


@pytest.mark.parametrize("root", ["s3://bucket/a", "/mnt/a", "file:///mnt/a"])
def test_a_trailing_slash_makes_no_other_submission(tmp_path: Path, root: str) -> None:
    path = write_sweep(tmp_path, tiny())
    assert plan_submission(path, root).root == root
    assert plan_submission(path, f"{root}/") == plan_submission(path, f"{root}//") == plan_submission(path, root)


@pytest.mark.parametrize("scheme", ["s3", "no-such-file-system"])
def test_a_root_with_credentials_is_not_sent(tmp_path: Path, scheme: str) -> None:
    # Looked at before the sweep file, and without the package that serves the scheme.
    with pytest.raises(InputError, match="holds credentials") as caught:
        plan_submission(tmp_path / "missing.yaml", f"{scheme}://AKIA123:se/cret@bucket/sweep")
    assert "cret" not in str(caught.value)


def test_a_faulty_sweep_is_not_submitted(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(batch_sise=3))
    with pytest.raises(InputError, match="batch_sise"):
        plan_submission(path, "s3://bucket/a")


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    with ray_head(cpus=1) as started:
        yield started.jobs


@pytest.mark.ray
def test_a_sweep_is_submitted_once_stopped_and_resumed(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        return sphere(monkeypatch, *arguments), capsys.readouterr().out

    path, root = write_sweep(tmp_path, LONGER), tmp_path / "root"
    submitting = ("submit", path, "--address", head, "--root", root)
    with pytest.raises(urllib.error.HTTPError) as unauthorised:
        urllib.request.urlopen(f"{head}/api/jobs/", timeout=600)
    assert unauthorised.value.code == 401

    code, said = run(*submitting)
    assert code == 0, said
    job = next(line.split()[1] for line in said.splitlines() if line.startswith("submitted: "))
    assert job.endswith("-1")
    assert sphere(monkeypatch, *submitting, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"job": job, "sweep": "tiny", "root": str(root), "exit_code": None}
    assert f"already submitted: {job}" in said.err

    client = connect(head)
    wait_until(
        lambda: list(root.glob("trajectories/*/checkpoints/*/manifest.json")) or jobs_of(client)[job] in FINISHED,
        every=0.2,
    )
    assert json.loads(run("stop", path, "--address", head, "--json")[1]) == {
        "job": job,
        "state": "STOPPED",
        "ended": True,
    }
    progress = [json.loads(file.read_text()) for file in root.glob("trajectories/*/progress.json")]
    assert [record["state"] for record in progress] == ["stopped"]
    assert 0 < progress[0]["edits"] < 60

    code, said = run(*submitting, "--follow")
    assert code == 0, said
    assert f"submitted: {job.removesuffix('1')}2" in said
    assert "| alphaedit+sphere |" in said
    assert run("run", path, "--local", "--root", tmp_path / "quiet")[0] == 0
    assert results_of(root) == results_of(tmp_path / "quiet") != {}
    assert "has ended already: SUCCEEDED" in run("stop", path, "--address", head)[1]
    # By the beginning of an id as well, if it names one job.
    assert "has ended already" in run("stop", job, "--address", head)[1]
    assert sphere(monkeypatch, "stop", job[:-1], "--address", head) == 2
    assert "is the beginning of 2 ids" in capsys.readouterr().err


@pytest.mark.ray
def test_numbers_go_on_from_the_highest_and_an_ended_job_is_not_attached_to(head: str, tmp_path: Path) -> None:
    submission = plan_submission(write_sweep(tmp_path, tiny()), "/mnt/tiny")
    submission = replace(submission, entrypoint="sleep 600")
    client, console = connect(head), Console(file=io.StringIO(), width=200)
    metadata = {"submission": submission.name}
    # The first is deleted. The fourth is not known as one of this sweep's: only its id is taken.
    for number, known in ((1, metadata), (2, metadata), (3, metadata), (4, {})):
        client.submit_job(entrypoint="false", submission_id=f"{submission.name}-{number}", metadata=known)
    wait_until(lambda: {str(state) for state in jobs_of(client).values()} <= set(FINISHED), every=0.2)
    client.delete_job(f"{submission.name}-1")
    job = submit_once(submission, client, console)
    try:
        assert job == f"{submission.name}-5"
        assert jobs_of(client)[job] not in FINISHED
        assert submit_once(submission, client, console) == job
        said = console.file.getvalue()  # type: ignore[attr-defined]
        assert said.startswith(f"submitted: {job}\nalready submitted: {job} (")
    finally:
        client.stop_job(job)


@pytest.mark.ray
def test_a_connection_that_breaks_ends_following_with_a_message(head: str) -> None:
    said = io.StringIO()
    with breakable_link(int(head.rsplit(":", 1)[1])) as link:
        client = connect(f"http://127.0.0.1:{link.port}")
        job = client.submit_job(entrypoint="echo begun; sleep 600")

        def cut_once_followed() -> None:
            wait_until(lambda: "begun" in said.getvalue())
            link.cut()

        with ThreadPoolExecutor(1) as thread:
            cutting = thread.submit(cut_once_followed)
            assert follow_job(client, job, Console(file=said, width=200)) == 1
            cutting.result()
        with pytest.raises(InputError, match="connection to the cluster was lost"):
            jobs_of(client)
    assert "the connection was lost: WebSocket connection closed unexpectedly" in said.getvalue()
    assert f"{job} may still be running; the same command attaches to it again" in said.getvalue()
    assert connect(head).get_job_status(job) == "RUNNING"
    connect(head).stop_job(job)


class _Broken:
    """A client whose log breaks off with one fault, or ends, whereupon the job's state cannot be had or is given."""

    def __init__(self, log: Exception | None, info: Exception | str) -> None:
        self._log, self._info = log, info

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield f"log of {job}\n"
        if self._log is not None:
            raise self._log

    def get_job_info(self, job: str) -> SimpleNamespace:
        if isinstance(self._info, Exception):
            raise self._info
        return SimpleNamespace(status=SimpleNamespace(value=self._info), driver_exit_code=None)


@pytest.mark.parametrize(
    ("log", "info", "reason"),
    [
        (RuntimeError("WebSocket error for job"), "", "WebSocket error for job"),
        (aiohttp.ServerDisconnectedError(), "", "Server disconnected"),
        (aiohttp.ClientPayloadError(), "", "ClientPayloadError"),
        (ConnectionResetError("reset by peer"), "", "reset by peer"),
        (None, requests.ConnectionError("refused"), "refused"),
        (None, RuntimeError("Request failed with status code 500: \ntrace"), "Request failed with status code 500"),
        (None, "RUNNING", "the log ended before the job"),
    ],
)
def test_however_following_breaks_off_it_is_said(log: Exception | None, info: Exception | str, reason: str) -> None:
    said = io.StringIO()
    assert follow_job(_Broken(log, info), "job-1", Console(file=said, width=200)) == 1
    assert said.getvalue().splitlines()[0] == "log of job-1"
    assert f"the connection was lost: {reason}" in said.getvalue()
    assert "job-1 may still be running; the same command attaches to it again" in said.getvalue()
    assert "trace" not in said.getvalue()


@pytest.mark.ray
@pytest.mark.parametrize("token", [None, "f" * 64])
def test_without_the_token_nothing_is_answered(head: str, tmp_path: Path, token: str | None) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    del environment["RAY_AUTH_TOKEN"]
    if token is not None:
        (tmp_path / "token").write_text(token, encoding="utf-8")
        environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "token")
    command = [sys.executable, "-m", "workflows.cli", "stop", "sphere-tiny-1", "--address", head]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ("refuses the one here" if token else "there is no token") in done.stderr
