"""What a job takes along: what the sweep and its task files name, and nothing that merely lies beside it."""

from pathlib import Path
from typing import Any

import pytest
from repository import REPOSITORY
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from workflows.cluster.job_package import Package, pack

QUIZ = "task: quiz\ndataset_path: json\ndataset_kwargs: {data_files: {test: quiz.jsonl}}\n"


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write small files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def with_tasks(*tasks: Any, **settings: Any) -> dict[str, Any]:
    """Return the tiny sweep with such tasks."""
    return tiny(evaluators={"general": {"tasks": list(tasks), **settings}})


def names_of(package: Package) -> set[str]:
    """Return the paths inside a package that are the sweep's."""
    return {file.relative_to(package.base).as_posix() for file in package.files}


def test_a_job_takes_along_the_code_and_what_the_sweep_names(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "data/facts.json": "[]",
            "data/unused.json": "[]",
            "study/tasks/quiz.yaml": QUIZ,
            "study/tasks/quiz.jsonl": "{}",
            "study/tasks/.secret": "",
            "study/model/config.json": "{}",
            "study/model/modeling.py": "",
            "study/model/modeling.pyc": "",
            "study/model/.cache/lock.json": "{}",
            "study/model/__pycache__/modeling.pyc": "",
            "study/runs/tiny/plan.json": "{}",
            "study/memit/readme.txt": "not a method",
        },
    )
    settings = tiny(
        models=[{"source": "model", "dtype": "float32", "preset": "factworld"}],
        streams=[{"dataset": "counterfact", "path": "../data/facts.json", "edits": 6, "order": "canonical"}],
        evaluators={"general": {"tasks": ["tasks/quiz.yaml", "factworld"]}},
    )
    path = write_sweep(tmp_path / "study", settings)
    # Data above the sweep file's folder is sent only where that is asked for: the sweep may be of another person.
    with pytest.raises(InputError, match=r"above its folder or through a link: .*data/facts\.json"):
        pack(path)
    package = pack(path, outside=True)
    package.write(tmp_path / "package")
    shipped = {path.relative_to(tmp_path / "package").as_posix() for path in (tmp_path / "package").rglob("*.*")}
    assert {name for name in shipped if name.startswith("sweep/")} == {
        "sweep/data/facts.json",
        "sweep/study/model/config.json",
        "sweep/study/model/modeling.py",
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


def test_what_lies_beside_a_task_file_stays_behind(tmp_path: Path) -> None:
    write_files(tmp_path, {"quiz.yaml": QUIZ, "quiz.jsonl": "{}", "id_rsa": "private", "nohup.out": "first"})
    path = write_sweep(tmp_path, with_tasks("quiz.yaml"))
    assert names_of(pack(path)) == {"sweep.yaml", "quiz.yaml", "quiz.jsonl"}
    first = pack(path).digest()
    write_files(tmp_path, {"nohup.out": "second"})
    assert pack(path).digest() == first
    write_files(tmp_path, {"quiz.jsonl": "{} "})
    assert pack(path).digest() != first


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"dataset_kwargs": "{data_files: one.jsonl}"}, {"one.jsonl"}),
        ({"dataset_kwargs": "{data_files: [one.jsonl, sub/two.jsonl]}"}, {"one.jsonl", "sub/two.jsonl"}),
        ({"dataset_kwargs": "{data_files: {test: [../outer.jsonl]}}"}, {"../outer.jsonl"}),
        ({"dataset_kwargs": "{data_files: ['https://example.org/one.jsonl', missing.jsonl]}"}, set()),
        ({"process_docs": "!function sub.scorer.clean"}, {"sub/scorer.py"}),
        ({"process_docs": "!function json.loads"}, set()),
        ({"include": "_base"}, {"_base", "base.jsonl"}),
        ({"include": "[sub/loop.yaml]"}, {"sub/loop.yaml"}),
        ({"dataset_path": "folder"}, {"folder/a.jsonl"}),
        ({"task": "[other.yaml, known_by_name]", "group": "all"}, {"other.yaml", "one.jsonl"}),
        ({"task": "[{task: inline, include: _base}]", "group": "all"}, {"_base", "base.jsonl"}),
        ({"task": "[{task: inline, dataset_kwargs: {data_files: one.jsonl}}]", "group": "all"}, {"one.jsonl"}),
    ],
)
def test_a_task_file_takes_along_what_it_names(tmp_path: Path, files: dict[str, str], named: set[str]) -> None:
    settings = {"task": "quiz", "dataset_path": "json", **files}
    write_files(
        tmp_path / "tasks",
        {
            "quiz.yaml": "".join(f"{key}: {value}\n" for key, value in settings.items()),
            "other.yaml": "task: other\ndataset_path: json\ndataset_kwargs: {data_files: one.jsonl}\n",
            "_base": "dataset_kwargs: {data_files: base.jsonl}\n",
            "sub/loop.yaml": "include: ../quiz.yaml\n",
            "sub/scorer.py": "",
            "folder/a.jsonl": "{}",
            "folder/.hidden": "",
            **dict.fromkeys(("one.jsonl", "sub/two.jsonl", "../outer.jsonl", "base.jsonl", "known_by_name"), "{}"),
        },
    )
    package = pack(write_sweep(tmp_path, with_tasks({"task": "tasks/quiz.yaml", "limit": 2})))
    inside = {(tmp_path / "tasks" / name).resolve().relative_to(tmp_path).as_posix() for name in named}
    assert names_of(package) == {"sweep.yaml", "tasks/quiz.yaml", *inside}


def test_a_linked_data_file_lies_where_it_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"study/quiz.yaml": QUIZ, "store/blob": '{"a": 1}'})
    (tmp_path / "study" / "quiz.jsonl").symlink_to(tmp_path / "store" / "blob")
    path = write_sweep(tmp_path / "study", with_tasks("quiz.yaml"))
    with pytest.raises(InputError, match=r"through a link: .*study/quiz\.jsonl"):
        pack(path)
    package = pack(path, outside=True)
    package.write(tmp_path / "package")
    assert (tmp_path / "package" / "sweep" / "quiz.jsonl").read_text(encoding="utf-8") == '{"a": 1}'


def test_a_task_folder_goes_whole_with_what_its_files_name_outside(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "suite/quiz.yaml": "include: ../shared/base.yaml\ntask: quiz\n",
            "suite/notes.txt": "",
            "suite/broken.yaml": "task: [..\n",
            "suite/__pycache__/scorer.pyc": "",
            "suite/scorer.pyc": "",
            "shared/base.yaml": "dataset_path: json\ndataset_kwargs: {data_files: base.jsonl}\n",
            "shared/base.jsonl": "{}",
            "shared/unused.jsonl": "{}",
        },
    )
    whole = {"sweep.yaml", "suite/quiz.yaml", "suite/notes.txt", "suite/broken.yaml"}
    package = pack(write_sweep(tmp_path, with_tasks("suite")))
    assert names_of(package) == whole | {"shared/base.yaml", "shared/base.jsonl"}
    assert names_of(pack(write_sweep(tmp_path, with_tasks("quiz", include_path=["suite"])))) == names_of(package)


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n-----END OPENSSH PRIVATE KEY-----\n"
METHOD = {"name": "memit"}


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": [{**METHOD, "label": "../home/notes.txt"}]},
        {"methods": [{**METHOD, "label": ".."}]},
        {
            "published": [
                {
                    "source": "../home/notes.txt",
                    "model": "factworld",
                    "dataset": "factworld",
                    "edits": 6,
                    "protocol": "argmax",
                    "metrics": ["efficacy"],
                    "values": {"memit": [1]},
                }
            ]
        },
        {"name": "data"},
        {"models": [{"source": "factworld", "dtype": "float32", "preset": "factworld", "name": "data/facts.json"}]},
    ],
)
def test_a_value_that_only_looks_like_a_path_sends_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    names = ("home/notes.txt", "study/data/facts.json", "study/memit")
    write_files(tmp_path, dict.fromkeys(names, "{}"))
    assert names_of(pack(write_sweep(tmp_path / "study", tiny(**changes)))) == {"sweep.yaml"}


@pytest.mark.parametrize(
    "changes",
    [
        {"models": [{"source": "../model", "dtype": "float32", "preset": "factworld"}]},
        {"models": [{"source": "factworld", "dtype": "float32", "preset": "../preset.yaml"}]},
        {"methods": [{**METHOD, "file": "../memit.json"}]},
        {"streams": [{"dataset": "counterfact", "path": "../memit.json", "edits": 6, "order": "canonical"}]},
        {"streams": [{"dataset": "factworld", "edits": 6, "order": {"given": "../memit.json"}}]},
        {"streams": [{"dataset": "counterfact", "path": "none.json", "edits": 6, "snippets": "../memit.json"}]},
        {"contexts": {"file": "../memit.json"}},
        {"moments": {"file": "../memit.json"}},
        {"moments": {"corpus": ["factworld", "../memit.json"], "sentences": 5}},
        {"evaluators": {"general": {"tasks": ["../quiz.yaml"]}}},
        {"evaluators": {"general": {"tasks": [{"task": "../quiz.yaml"}]}}},
        {"evaluators": {"general": {"tasks": ["quiz"], "include_path": [".."]}}},
        {"evaluators": {"general": {"tasks": ["perplexity"], "corpus": "../memit.json"}}},
        {"plugins": ["../own.py"]},
    ],
)
def test_every_key_that_is_a_path_is_sent_only_on_request_from_above(tmp_path: Path, changes: dict[str, Any]) -> None:
    texts = {"memit.json": "{}", "model/config.json": "{}", "preset.yaml": "", "own.py": "", "quiz.yaml": QUIZ}
    write_files(tmp_path, texts | {"quiz.jsonl": "{}"})
    path = write_sweep(tmp_path / "study", tiny(**changes))
    with pytest.raises(InputError, match="above its folder") as caught:
        pack(path)
    assert "--outside" in str(caught.value.remedy)
    assert len(names_of(pack(path, outside=True))) > 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("id_rsa", "x"),
        ("id_ed25519_work", "x"),
        ("server.PEM", "x"),
        ("aws-credentials.json", "{}"),
        ("credentials", "x"),
        ("auth_token", "x"),
        ("service-account-4.json", "{}"),
        ("facts.json", KEY),
        ("facts.json", '{"type": "service_account", "private_key": "x"}'),
        ("facts.json", "[default]\naws_secret_access_key = x\n"),
    ],
)
def test_keys_are_never_sent(tmp_path: Path, name: str, text: str) -> None:
    write_files(tmp_path, {f"suite/{name}": text, "suite/quiz.yaml": QUIZ, "suite/quiz.jsonl": "{}"})
    # Inside a folder it stays behind, and that is said; named itself it is refused.
    package = pack(write_sweep(tmp_path, with_tasks("suite")), outside=True)
    assert names_of(package) == {"sweep.yaml", "suite/quiz.yaml", "suite/quiz.jsonl"}
    assert [path.name for path in package.left_out] == [name]
    assert any("left out" in line and name in line for line in package.lines())
    stream = {"dataset": "counterfact", "path": f"suite/{name}", "edits": 6, "order": "canonical"}
    with pytest.raises(InputError, match="key or a file of credentials"):
        pack(write_sweep(tmp_path, tiny(streams=[stream])), outside=True)
    (tmp_path / "plain.json").symlink_to(tmp_path / "suite" / name)
    with pytest.raises(InputError, match="key or a file of credentials"):
        pack(write_sweep(tmp_path, tiny(streams=[{**stream, "path": "plain.json"}])), outside=True)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "token_counts.json", "keys.safetensors", "id_rsa.pub", "secretary.json"]
)
def test_files_of_models_and_data_are_not_taken_for_keys(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {f"model/{name}": "{}"})
    model = {"source": "model", "dtype": "float32", "preset": "factworld"}
    assert names_of(pack(write_sweep(tmp_path, tiny(models=[model])))) == {"sweep.yaml", f"model/{name}"}


def test_the_list_names_every_file_with_its_size(tmp_path: Path) -> None:
    write_files(tmp_path, {"quiz.yaml": QUIZ, "quiz.jsonl": "{}"})
    first, *lines = pack(write_sweep(tmp_path, with_tasks("quiz.yaml"))).lines()
    assert "3 files" in first
    assert {line.split()[0] for line in lines} == {"sweep.yaml", "quiz.yaml", "quiz.jsonl"}
    assert "  quiz.jsonl (2 bytes)" in lines


def test_a_task_file_that_is_no_yaml_is_not_submitted(tmp_path: Path) -> None:
    write_files(tmp_path, {"quiz.yaml": "task: [\n"})
    with pytest.raises(InputError, match="not valid YAML"):
        pack(write_sweep(tmp_path, with_tasks("quiz.yaml")))


def test_large_files_belong_on_shared_storage(tmp_path: Path) -> None:
    with (tmp_path / "facts.json").open("wb") as sparse:
        sparse.truncate(300 << 20)
    stream = {"dataset": "counterfact", "path": "facts.json", "edits": 6, "order": "canonical"}
    with pytest.raises(InputError, match="come to 300 MiB") as caught:
        pack(write_sweep(tmp_path, tiny(streams=[stream])))
    assert str(caught.value.where).endswith("facts.json")
