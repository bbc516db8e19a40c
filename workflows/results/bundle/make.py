"""Make a bundle of a sweep: a folder, or one archive."""

import hashlib
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from sphere_core.foundation.code_version import code_commit, code_version
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import output_errors
from sphere_core.methods import resolve_method
from workflows.results.bundle.archive import write_archive
from workflows.results.bundle.copied import copy_sweep
from workflows.results.bundle.data_files import DATA_VIEWS, write_views
from workflows.results.figures.catalogue import FIGURES
from workflows.results.figures.contract import FigureSource, Look
from workflows.results.figures.make import make_figure, write_figure
from workflows.results.figures.style import WIDTHS, method_looks
from workflows.results.formats.arrow_formats import arrow_csv
from workflows.results.formats.layout_view import layout_answer
from workflows.results.formats.results_view import results_arrow
from workflows.results.layouts.asked import default_layout
from workflows.results.layouts.layout import Layout
from workflows.results.layouts.make_table import layout_table
from workflows.results.report.chapter import ReportAsk
from workflows.results.report.page import report_page
from workflows.results.sql.connect import connect_roots, stream_name
from workflows.results.sql.sweep_roots import SweepRoot, open_roots
from workflows.results.sql.view_columns import VIEW_COLUMNS
from workflows.results.status.status import state_counts
from workflows.results.tables.table import results_table
from workflows.store.plan import SweepPlan
from workflows.terminal.escape import markdown_text

__all__ = ["ARCHIVE", "BundleAsk", "make_bundle"]

ARCHIVE = ".tar.gz"
_SWEEP = "sweep"
_STYLE = "paper"


@dataclass(frozen=True)
class BundleAsk:
    """What a bundle holds besides rows: scored probes and documents, which figures, what report and table are about."""

    report: ReportAsk
    details: bool
    layout: Layout | None = None
    figures: tuple[str, ...] = FIGURES


def make_bundle(root: str, out: Path, ask: BundleAsk) -> list[str]:
    """Write a sweep's rows, tables, figures, report and provenance to `out`, and return the paths in it.

    `out` is a folder, or an archive if its name ends in `.tar.gz`; equal sweep directories give equal bytes, wherever
    they are. It appears when it is whole; an archive that is there already is replaced. Raises InputError if nothing is
    scored, if a file of the sweep is damaged, for a folder that holds something, and if `out` cannot be written.
    """
    (opened,) = open_roots([root])
    archive = out.name.endswith(ARCHIVE)
    if not archive and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the bundle's folder holds something already", where=str(out), remedy="give another --out")
    with output_errors(out), tempfile.TemporaryDirectory(prefix=".bundle-", dir=out.absolute().parent) as scratch:
        folder = Path(scratch) / (out.name.removesuffix(ARCHIVE) or opened.plan.name)
        with opened.held() as held:
            _fill(folder, held, ask)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if archive:
            packed = Path(scratch) / f"packed{ARCHIVE}"
            write_archive(folder, packed)
            packed.replace(out)
        else:
            if out.exists():
                out.rmdir()
            folder.chmod(0o755)
            shutil.move(folder, out)
    return names


def _fill(folder: Path, root: SweepRoot, ask: BundleAsk) -> None:
    (folder / _SWEEP).mkdir(parents=True)
    copy_sweep(root, folder / _SWEEP, details=ask.details)
    page, _ = report_page([root], ask.report, shown=(_SWEEP,))
    (folder / "report.html").write_text(page, encoding="utf-8")
    counts = write_views(root, folder / "data")
    _write_tables(root, folder / "tables", ask.layout)
    drawn, absent = _draw(root, folder / "figures", ask)
    environment = _environment(root)
    lines = [f"{name}: {found}" for name, found in environment.items()]
    lines += ["", f"made by: SPHERE {code_version()}, commit {code_commit() or 'not recorded'}"]
    lines += [f"Python {platform.python_version()}", *_packages()]
    (folder / "environment.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [name for name in DATA_VIEWS if name in counts]
    texts = _texts(root, environment) | {
        "views": [(name, VIEW_COLUMNS[name].one_row) for name in names],
        "counts": counts,
        "figures": drawn,
        "absent": absent,
        "details": ask.details,
    }
    loader = PackageLoader("workflows.results.bundle")
    templates = Environment(loader=loader, autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True)
    templates.filters["plain"] = markdown_text
    for name in ("README.md", "CITATION.cff"):
        text = templates.get_template(f"{name}.j2").render(texts)
        (folder / name).write_text(text, encoding="utf-8")
    _write_sums(folder)


def _write_tables(root: SweepRoot, folder: Path, layout: Layout | None) -> None:
    folder.mkdir()
    answer = layout_answer(layout_table([root], layout or default_layout([root])))
    texts = {"main.md": answer.markdown(), "main.csv": arrow_csv(answer.table)}
    texts |= {f"main.{form}": make() for form, make in (("tex", answer.latex), ("html", answer.html)) if make}
    texts["all.csv"] = arrow_csv(results_arrow(results_table(root, by_edits=True)))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _draw(root: SweepRoot, folder: Path, ask: BundleAsk) -> tuple[list[str], list[tuple[str, str]]]:
    """Draw the figures that the rows allow; return their names, and the others with what they lack."""
    folder.mkdir()
    look = Look(WIDTHS["text"], method_looks((one.title for one in root.plan.trajectories), style=_STYLE))
    drawn, absent = [], []
    with FigureSource.open(root) as source:
        for name in ask.figures:
            try:
                write_figure(make_figure(source, name, ask.report.figures), look, folder / f"{name}.pdf", style=_STYLE)
                drawn.append(name)
            except InputError as error:
                absent.append((name, error.what.removeprefix("there is nothing to draw: ")))
    return drawn, absent


def _environment(root: SweepRoot) -> dict[str, str]:
    """Return devices, versions and commits that did the work, as far as they were recorded."""
    columns = {"devices": "device", "versions": "versions", "commits": "code_commit"}
    asked = ", ".join(f"string_agg(DISTINCT {column}, '; ' ORDER BY {column})" for column in columns.values())
    with connect_roots([root], views=("timings",)) as connection:
        found = connection.sql(f"SELECT {asked} FROM timings").fetchall()[0]
    return {name: text or "not recorded" for name, text in zip(columns, found, strict=True)}


def _texts(root: SweepRoot, environment: dict[str, str]) -> dict[str, object]:
    plan = root.plan
    return {
        "plan": plan,
        "version": code_version(),
        "states": state_counts(root.state.trajectories),
        "failures": len(root.state.failures),
        "models": _distinct(f"{one.model} ({one.model_digest[:12]}, {one.dtype})" for one in plan.trajectories),
        "streams": _distinct(map(stream_name, plan.trajectories)),
        "methods": _distinct(one.title for one in plan.trajectories),
        "seeds": sorted({one.seed for one in plan.trajectories}),
        "environment": environment,
        "papers": _papers(plan),
    }


def _papers(plan: SweepPlan) -> dict[str, str]:
    """Return the papers of each method; those of plugins are not known here."""
    found = {}
    for one in plan.trajectories:
        if one.method not in found and not plan.code_of(one):
            found[one.method] = resolve_method(one.method).paper
    return found


def _packages() -> list[str]:
    """Return this package and all that it requires here, with versions, in the order of their names."""
    found: dict[str, str] = {}
    waiting = ["sphere-editing"]
    while waiting:
        name = waiting.pop()
        try:
            one = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            # An extra that is not installed, or a package of another platform.
            continue
        key = re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()
        if key not in found:
            found[key] = one.version
            waiting += [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in one.requires or ()]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _write_sums(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = []
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
