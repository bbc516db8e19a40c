"""The documentation: every setting and column has a description, links and quoted error texts exist."""

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from published_tables import count_cells, published_entries
from repository import REPOSITORY

from sphere_core.checkpoints import EditorState
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.rows import RegularizerRow
from sphere_core.numerics.linalg import DenseUpdate
from sphere_core.solver.forms import FORMS, REFUSED
from workflows.cli import COMMANDS
from workflows.store.row_schema import COLUMN_DESCRIPTIONS, ROW_SCHEMA
from workflows.sweeps.spec import SweepSpec

DOCS = REPOSITORY / "docs"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
HELP_COLUMNS = 80
PACKAGES = ("sphere_core", "evaluators", "workflows")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def broken_links(text: str, folder: Path) -> list[str]:
    """Return the relative links of a Markdown text that lead to no file."""
    targets = [target for target in LINK.findall(text) if "://" not in target]
    return [target for target in targets if not (folder / target).exists()]


def quoted_errors(page: str) -> list[str]:
    """Return the error texts of the troubleshooting page: the first cell of a row, where it is one code span."""
    return [text for text in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE) if " " in text]


def pieces(quoted: str) -> list[str]:
    """Return the parts of a quoted text that the code spells out: what lies between dots and quotation marks."""
    return [piece.strip() for piece in re.split(r"\.\.\.|'", quoted) if len(piece.strip()) > 3]


def test_every_setting_has_a_description(generate: ModuleType) -> None:
    assert generate.fields_without_description() == []


def test_every_column_has_a_description() -> None:
    assert list(COLUMN_DESCRIPTIONS) == ROW_SCHEMA.names
    assert all(COLUMN_DESCRIPTIONS.values())
    assert ROW_SCHEMA.metadata is None


def test_the_page_of_the_solver_has_every_form_and_every_refusal(generate: ModuleType) -> None:
    page = generate.solver_forms()
    for name, form in FORMS.items():
        assert f"| {name} | {form.when} |" in page
    for words in REFUSED:
        assert f"| {words} |" in page


def test_every_command_is_in_the_reference(generate: ModuleType) -> None:
    found = generate.commands()
    assert {words[0] for words in found} == set(COMMANDS)
    assert ("moments", "build") in found
    page = generate.filled_in("<!-- generated: command_help -->")
    assert "## sphere moments build\n" in page
    assert "--dry-run" in page


def folded(text: str) -> list[str]:
    """Return the lines of a help that a terminal of 80 columns folds: examples are printed as they are written."""
    return [line for line in text.splitlines() if len(line) > HELP_COLUMNS]


def test_no_line_of_a_help_is_folded_at_80_columns(generate: ModuleType) -> None:
    shown = {words: generate.help_text(words, HELP_COLUMNS) for words in [(), *generate.commands()]}
    assert {words: folded(text) for words, text in shown.items() if folded(text)} == {}
    assert "  sphere moments build factworld --layers 0,1" in shown["moments", "build"]


def test_a_folded_line_is_found() -> None:
    assert folded(f"  sphere run {'a' * 80}\n  sphere run a") == [f"  sphere run {'a' * 80}"]


def test_generated_tables_hold_the_fields(generate: ModuleType) -> None:
    pages = {path.name: generate.filled_in(path.read_text()) for path in (DOCS / "reference").glob("*.md")}
    assert not [name for name, text in pages.items() if "<!-- generated" in text]
    assert "| `checkpoint_every` | integer | **required** |" in pages["sweep-file.md"]
    assert "| `threads` | integer | `1` |" in pages["sweep-file.md"]
    assert "| `weights_digest` | string |" in pages["row-columns.md"]
    assert "| `clamp_norm_factor` | number |" in pages["hyperparameters.md"]
    with pytest.raises(KeyError):
        generate.filled_in("<!-- generated: nothing_like_it -->")


def test_the_page_of_published_tables_has_every_file_and_every_number(generate: ModuleType) -> None:
    text = (DOCS / "reproduction.md").read_text()
    page = generate.filled_in(text)
    files = published_entries()
    assert "examples/sphere_paper_llama3.yaml" in files
    for name, entries in files.items():
        assert f"| `{name}` |" in text
        assert f"### `{name}`\n\n{sum(map(count_cells, entries))} numbers." in page
        for method, values in ((method, values) for entry in entries for method, values in entry.values.items()):
            assert f"| {method} | {' | '.join('' if one is None else f'{one:g}' for one in values)} |" in page
    assert "| method | efficacy (± 0.025) |" in page


PAGES = [path.relative_to(REPOSITORY).as_posix() for path in sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES])
def test_links_lead_to_files_of_the_repository(page: str) -> None:
    assert broken_links((REPOSITORY / page).read_text(), (REPOSITORY / page).parent) == []


def test_links_lead_to_pages_of_the_site(generate: ModuleType) -> None:
    site = {*PAGES, *(f"docs/{page}" for page in generate.ROOT_PAGES)}
    pages = {page: generate.site_links((REPOSITORY / page).read_text(), page.removeprefix("docs/")) for page in PAGES}
    outside = [
        (page, target)
        for page, text in pages.items()
        for target in LINK.findall(text)
        if target.endswith(".md") and os.path.normpath(f"{page}/../{target}") not in site
    ]
    assert outside == []
    assert "](contributing.md#add-a-regularizer)" in pages["docs/tutorial.md"]
    assert generate.site_links("[a](../../CHANGELOG.md#top)", "results/x.md") == "[a](../changelog.md#top)"


def test_a_broken_link_is_found() -> None:
    assert broken_links("[a](index.md#top), [b](gone.md), [c](https://example.org/x)", DOCS) == ["gone.md"]


def rooms() -> list[str]:
    """Return the rooms of the three packages: folders, and files at the root."""
    found = [path for package in PACKAGES for path in (REPOSITORY / package).iterdir()]
    return sorted(
        path.stem for path in found if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem[0] != "_")
    )


def test_every_room_is_in_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", "".join(line for line in page.splitlines() if line.startswith("| `"))))
    assert "driver" in rooms()
    assert [room for room in rooms() if room not in named] == []


def folders_in(block: str) -> dict[str, list[str]]:
    """Return the folders that a drawn tree lists below each folder at its margin, in their order."""
    found: dict[str, list[str]] = {}
    for line in block.splitlines():
        named = re.match(r"( *)([\w.]+)/(?= )", line)
        if named and not named[1]:
            top = found.setdefault(named[2], [])
        elif named:
            top.append(named[2])
    return found


def test_the_tree_of_the_readme_lists_the_folders_of_the_packages() -> None:
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    listed = folders_in(page.partition("## The tree")[2].split("```")[1])
    there = {
        package: sorted(path.parent.name for path in (REPOSITORY / package).glob("*/__init__.py"))
        for package in ("sphere_core", "evaluators", "workflows")
    }
    assert {package: sorted(listed[package]) for package in there} == there


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of the tutorial in one language."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_sweeps_of_the_tutorial_are_valid() -> None:
    sweeps = [yaml.safe_load(block) for block in blocks("yaml") if block.startswith("name:")]
    assert [SweepSpec.model_validate(sweep).name for sweep in sweeps] == ["first", "llama3"]


def test_the_regularizer_of_the_tutorial_does_what_it_says() -> None:
    module, field, build, row, _ = blocks("python")
    names: dict[str, Any] = {}
    exec(module, names)
    exec(build, names | {"Hyperparameters": Hyperparameters}, names)
    settings = SimpleNamespace(number={"clip_factor": 0.5}.__getitem__)
    matrix = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clipped = names["clip"](settings).apply(DenseUpdate(matrix), None, EditorState()).dense()
    assert clipped.abs().max() == pytest.approx(0.5 * float(matrix.std()))
    assert torch.equal(clipped[matrix.abs() < clipped.abs().max()], matrix[matrix.abs() < clipped.abs().max()])
    rows = eval(f"{{{row}}}", {"RegularizerRow": RegularizerRow})
    assert rows["clip"].requires == (("clip_factor",),)
    assert field.strip().startswith("clip_factor: Positive | None = _optional(")


def test_the_python_of_the_tutorial_is_that_of_the_example() -> None:
    (script,) = (block for block in blocks("python") if "import workflows.api" in block)
    example = (REPOSITORY / "examples" / "edit_25_facts.py").read_text(encoding="utf-8").splitlines()
    assert [line for line in script.splitlines() if line and line not in example] == []


def test_quoted_errors_exist() -> None:
    code = "".join(path.read_text() for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
    quoted = quoted_errors((DOCS / "troubleshooting.md").read_text())
    assert len(quoted) > 20
    assert [text for text in quoted if any(piece not in code for piece in pieces(text))] == []


def test_a_quoted_error_that_is_gone_is_found() -> None:
    assert quoted_errors("| `the moon is full` | x | y |\n| `WorkerLost` in `status` | x | y |") == ["the moon is full"]
    assert pieces("unknown key '...'") == ["unknown key"]
