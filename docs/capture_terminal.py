"""Write docs/terminal.md: the main views as a terminal of 80 and 100 columns and a pipe show them.

python docs/capture_terminal.py [FOLDER]      runs examples/quickstart.yaml below FOLDER in tmux; about three minutes
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "terminal.md"
SWEEP, ROOT = "examples/quickstart.yaml", "runs/quickstart"
SPHERE = [sys.executable, "-m", "workflows.cli"]
WIDTHS = (80, 100)
INTRODUCTION = """\
# Terminal

What the main commands print. On a terminal a table has the columns that fit. Columns that have one value throughout are
in the title. The columns of lowest priority leave first, and a line names them; `--wide` shows all. Ids are shown by
their shortest unique beginning, which every command accepts in place of the whole id. In a pipe or a file nothing is
wrapped, padded or cut: cells are separated by tabs, ids are whole, and `table`, `ability`, `retention` and `correlate`
print Markdown. `--json` prints one JSON object.

```sh
sphere status runs/quickstart | grep failed | cut -f 1              # ids of what failed
sphere table runs/quickstart --json | jq '.rows[].scores["score (argmax)"].mean'
```

All views below are from `examples/quickstart.yaml`, written by `python docs/capture_terminal.py`.
"""
# What is shown of a sweep before and after it has run; a long view is cut here, not by the command.
BEFORE = {"plan": ("plan", SWEEP)}
AFTER = {"status": ("status", ROOT), "table": ("table", ROOT)}
ALWAYS = {"methods": ("methods",)}
_MOST_LINES = 40


def printed(arguments: Sequence[str], *, cwd: Path) -> str:
    """Return what a command prints into a pipe."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*SPHERE, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


class Terminal:
    """A terminal of tmux, of its own server."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux.socket")]
        environment = ["-e", f"PYTHONPATH={REPOSITORY}", "-e", "NO_COLOR=1"]
        self._do("new-session", "-d", "-x", "80", "-y", "200", "-c", str(folder), *environment, "env PS1='' sh")

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._do("kill-server")

    def _do(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=True).stdout

    def resize(self, width: int) -> None:
        """Set its width in columns."""
        self._do("resize-window", "-x", str(width))

    def screen(self) -> str:
        """Return what it shows now."""
        lines = [line.rstrip() for line in self._do("capture-pane", "-p").splitlines()]
        return "\n".join(lines).strip("\n")

    def start(self, arguments: Sequence[str]) -> None:
        """Clear the screen and start a command, whose end prints `ended`."""
        self._do("send-keys", f"clear; {' '.join([*SPHERE, *arguments])}; echo ended", "Enter")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._do("send-keys", "C-c")

    def wait(self, fits: Callable[[str], bool], seconds: float = 300) -> str:
        """Return the first screen that fits."""
        for _ in range(int(seconds / 0.2)):
            screen = self.screen()
            if fits(screen):
                return screen
            time.sleep(0.2)
        raise TimeoutError(f"no such screen in {seconds} s; the last one:\n{screen}")

    def shown(self, arguments: Sequence[str], width: int) -> str:
        """Return what a command shows at a width."""
        self.resize(width)
        self.start(arguments)
        screen = self.wait(lambda text: text.endswith("\nended"))
        return screen.split("echo ended\n")[-1].removesuffix("\nended").strip("\n")


def section(name: str, arguments: Sequence[str], captures: dict[str, str]) -> str:
    """Return one part of the page: a command, and what it shows where."""
    parts = [f"## {name}\n\n`sphere {' '.join(arguments)}`\n"]
    for where, text in captures.items():
        parts.append(f"### {name}: {where}\n\n```text\n{shortened(text)}\n```\n")
    return "\n".join(parts)


def shortened(text: str) -> str:
    """Return the first lines of a long view, without blanks at their ends."""
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    if len(lines) > _MOST_LINES + 1:
        lines = [*lines[:_MOST_LINES], f"... {len(lines) - _MOST_LINES} more lines"]
    return "\n".join(lines)


def views(terminal: Terminal, folder: Path, wanted: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the sections of some commands."""
    found = []
    for name, arguments in wanted.items():
        captures = {f"{width} columns": terminal.shown(arguments, width) for width in WIDTHS}
        captures["pipe"] = printed(arguments, cwd=folder)
        found.append(section(name, arguments, captures))
    return found


def run_views(terminal: Terminal, folder: Path) -> str:
    """Run the sweep: watched at both widths, interrupted, and resumed into a pipe."""
    arguments = ("run", SWEEP)
    terminal.resize(WIDTHS[0])
    terminal.start(arguments)
    terminal.wait(lambda text: "editing and scoring" in text and "evaluator" in text and "0.0 edits/s" not in text)
    captures = {}
    for width in WIDTHS:
        terminal.resize(width)
        captures[f"{width} columns"] = terminal.wait(lambda text: "evaluator" in text and "left not" not in text)
        time.sleep(1)
    captures = {where: text[text.index("trajectories  ") :] for where, text in captures.items()}
    terminal.interrupt()
    terminal.wait(lambda text: text.endswith("\nended"))
    captures["pipe, resumed"] = printed(arguments, cwd=folder)
    return section("run", arguments, captures)


def main() -> None:
    """Write the page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(REPOSITORY / "examples", folder / "examples", dirs_exist_ok=True)
    with Terminal(folder) as terminal:
        parts = [INTRODUCTION, *views(terminal, folder, BEFORE)]
        run = run_views(terminal, folder)
        parts += [run, *views(terminal, folder, AFTER), *views(terminal, folder, ALWAYS)]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
