"""The command line itself: groups, lines that fit, nearest names, version, completion, other encodings."""

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from command_line import sphere
from repository import REPOSITORY

import sphere_core
from workflows.cli import COMMANDS


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "workflows.cli", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, check=False)


def test_commands_are_listed_in_groups_on_lines_that_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert sphere(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    groups = re.findall(r"^([A-Z][\w ]+):$", text, re.MULTILINE)
    assert groups == ["Options", "Run", "Results", "Models and data", "One model"]
    for name, command in COMMANDS.items():
        (line,) = re.findall(rf"^  {name} .*$", text, re.MULTILINE)
        assert line.endswith(command.help)
        assert len(line) <= 80


@pytest.mark.parametrize("group", ["moments", "serac", "factworld", "new"])
def test_lines_of_a_group_are_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert sphere(monkeypatch, group, "--help") == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.endswith("...") and "Usage" not in line] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_usage_line_says_each_thing_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert sphere(monkeypatch, name, "--help") == 0
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert "......" not in usage
    assert usage.count("[") == usage.count("]")


@pytest.mark.parametrize(
    ("typed", "meant"), [("plna", "plan"), ("retrny", "retry"), ("factword", "factworld"), ("retenton", "retention")]
)
def test_a_mistyped_command_gets_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    assert sphere(monkeypatch, typed) == 2
    assert f"no command '{typed}': did you mean '{meant}'?" in capsys.readouterr().err


def test_a_word_like_no_command_gets_no_guess(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "xyzzyx", "--root", "here") == 2
    assert "did you mean" not in capsys.readouterr().err


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"sphere {metadata.version('sphere-editing')}\n"
    assert sphere_core.__version__ == metadata.version("sphere-editing")
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        sphere_core.version  # noqa: B018 - the access is the test


@pytest.mark.parametrize("name", ["plan", "status", "retention", "data", "moments import", "export"])
def test_arguments_and_values_are_in_capitals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert sphere(monkeypatch, *name.split(), "--help") == 0
    usage, rest = capsys.readouterr().out.split("\n", 1)
    assert re.fullmatch(rf"Usage: sphere {name} \[OPTIONS\](( [A-Z]+| \[[A-Z]+\])(\.\.\.)?)+", usage)
    listed = rest.split("Options:")[1].split("-h, --help")[0]
    assert not re.search(r"^  --[\w-]+ [<{]", listed, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sphere re", {"report", "retry", "retention"}),
        ("sphere status --wat", {"--watch"}),
        ("sphere moments ver", {"verify"}),
        ("sphere retention runs/main --measure p", {"probability"}),
    ],
)
def test_a_shell_completes_commands_options_and_choices(words: str, expected: set[str]) -> None:
    place = str(len(words.split()) - 1)
    done = run(_SPHERE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert set(done.stdout.decode().split()) == expected


def test_a_completion_script_can_be_had() -> None:
    done = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert b"_SPHERE_COMPLETE" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status", "nowhere-\N{LATIN SMALL LETTER E WITH ACUTE}-\N{GREEK SMALL LETTER SIGMA}"), 2),
        (("plan", "--nonsense-\N{GREEK SMALL LETTER SIGMA}"), 2),
        (("methods",), 0),
        (("--help",), 0),
    ],
)
def test_other_encodings_than_utf_8_are_no_fault(encoding: str, arguments: tuple[str, ...], code: int) -> None:
    done = run(*arguments, PYTHONIOENCODING=encoding)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert done.stdout.decode(encoding) if code == 0 else done.stderr


def test_an_error_in_a_pipe_keeps_its_path_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/".join(["a folder with a long name"] * 8)
    monkeypatch.setenv("COLUMNS", "80")
    assert sphere(monkeypatch, "plan", f"{path}/sweep.yaml") == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("error: ")
    assert any(f"{path}/sweep.yaml" in line for line in shown)
    assert all(line == line.rstrip() for line in shown)
