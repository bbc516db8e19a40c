"""Code of a user that task files name: run only where `--trust-task-code` was given.

Task files of lm-eval and of this project are released code and are run as they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from evaluators.general.task_files import sources_with_texts
from evaluators.general.task_functions import NamedFunction, named_functions, require_function
from evaluators.general.task_index import harness_folder
from sphere_core.foundation.errors import InputError

__all__ = ["is_released", "require_trusted"]

_OWN = Path(__file__).resolve().parent
_REMEDY = (
    "read that code, then give --trust-task-code: it is run with all your rights, here and on the cluster. "
    "Or write the task with templates alone"
)


def is_released(file: Path) -> bool:
    """Return whether a task file comes with lm-eval or with this project."""
    path = file.resolve()
    return path.is_relative_to(_OWN) or path.is_relative_to(harness_folder().resolve())


def require_trusted(files: Iterable[Path], *, trusted: bool) -> bool:
    """Return whether task files, or what they include, name code of a user; nothing of it is run.

    Raises InputError for such code if it is not trusted, and for functions that are not there.
    """
    found = False
    for file, function in _code(files):
        where = f"{file}, !function {function}"
        if not trusted:
            raise InputError(f"the task file names Python code, '{function}'", where=str(file), remedy=_REMEDY)
        require_function(function, file.parent, where=where)
        found = True
    return found


def _code(files: Iterable[Path]) -> Iterator[tuple[Path, NamedFunction]]:
    for file in files:
        if is_released(file):
            continue
        for source, said in sources_with_texts(file):
            if not is_released(source):
                _require_plain(source, said)
                yield from ((source, function) for function in named_functions(said))


def _require_plain(file: Path, said: Mapping[str, object]) -> None:
    """Raise InputError for prompts that are read from a file which nothing digests."""
    prompt = said.get("use_prompt")
    if isinstance(prompt, str) and ".yaml" in prompt:
        raise InputError(
            f"`use_prompt: {prompt:.60}` reads a file that is not part of the task's identity",
            where=str(file),
            remedy="write doc_to_text and doc_to_target in the task, or `include` the file",
        )
