"""One sweep as a chapter of a report: what each question's section holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sphere_core import __version__
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.figures.contract import FigureAsk, FigureSource, Look
from workflows.results.figures.make import draw_bytes, make_figure
from workflows.results.figures.panels import grouped
from workflows.results.figures.style import WIDTHS, method_looks
from workflows.results.report.inline_svg import inline_svg
from workflows.results.report.page_tables import PageTable, ledger, main_table
from workflows.results.sql.connect import connect_roots, stream_name
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.status.status import state_counts
from workflows.results.tables.edit_lives import forgotten_edits
from workflows.results.tables.published import published_table
from workflows.results.tables.table import results_table
from workflows.store.layout import SWEEP_FILE

__all__ = ["Chapter", "ReportAsk", "Section", "chapter_of"]

_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_MARGIN = 160, 34, 2


@dataclass(frozen=True)
class ReportAsk:
    """What a report is about: the figures' choices, the ledger's tolerance, how many lost edits are listed."""

    figures: FigureAsk
    tolerance: float
    lost: int


@dataclass(frozen=True)
class Picture:
    """A figure in the page."""

    id: str
    name: str
    title: str
    svg: str
    caption: str
    repeats: str
    root: str


@dataclass(frozen=True)
class Section:
    """A question and what answers it; `absent` names figures that the rows do not allow, with the reason."""

    id: str
    title: str
    text: str = ""
    tables: tuple[PageTable, ...] = ()
    pictures: tuple[Picture, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    lost: tuple[dict[str, Any], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Chapter:
    """One sweep: its name and state, its methods in the order of their colours, its sections."""

    name: str
    root: str
    streams: str
    state: str
    complete: bool
    methods: tuple[str, ...]
    sections: tuple[Section, ...] = field(default=())


def chapter_of(root: SweepRoot, ask: ReportAsk, *, prefix: str, shown: str) -> Chapter:
    """Read one sweep, each of its files once; raises InputError if nothing of it is scored.

    Commands in the page name the root as `shown`.
    """
    with root.held() as held:
        return _chapter(held, ask, prefix, shown)


def _chapter(root: SweepRoot, ask: ReportAsk, prefix: str, shown: str) -> Chapter:
    plan, state = root.plan, root.state
    published = published_table(root)
    results = results_table(root, by_edits=False)
    if not results.rows:
        raise InputError("nothing is scored here yet", where=root.name, remedy="'sphere status' shows how far it is")
    methods = tuple(dict.fromkeys(one.title for one in plan.trajectories))
    look = Look(WIDTHS["text"] + 1, method_looks(methods, style="page"), interactive=True)
    tables = tuple(main_table(results, state, published, whole=whole) for whole in (False, True))
    with FigureSource.open(root) as source:
        drawing = _Drawing(source, ask.figures, look, prefix, shown)
        sections = (
            drawing.section("works", "Did it work?", ("methods", "relations"), tables=tables),
            drawing.section("breaks", "When did it break?", ("scores", "ability", "energy")),
            drawing.section(
                "lost",
                "Which edits were lost?",
                ("cohorts", "ages", "retention", "lifetimes", "order", "predictors"),
                lost=_lost(source, ask, methods),
            ),
            drawing.section(
                "geometry",
                "Does geometry show it earlier than the score?",
                ("drift", "lag", "bound", "subspaces", "norms", "cosines", "hidden", "causal"),
            ),
            drawing.section("parts", "What did each part add?", ("plugins", "ablation")),
            _ledger_section(published, ask.tolerance),
            drawing.section(
                "provenance",
                "Where does it come from, and how is it run again?",
                ("seconds",),
                facts=_facts(root, shown),
                file=_file(root.storage),
            ),
        )
    streams = "; ".join(dict.fromkeys(f"{one.model}; {stream_name(one)}" for one in plan.trajectories))
    counted = f"{len(plan.trajectories)} trajectories: {state_counts(state.trajectories)}"
    return Chapter(plan.name, shown, streams, counted, state.is_complete, methods, sections)


@dataclass(frozen=True)
class _Drawing:
    source: FigureSource
    ask: FigureAsk
    look: Look
    prefix: str
    root: str

    def section(self, name: str, title: str, figures: Sequence[str], **others: Any) -> Section:
        """Return a section with those of the figures that the rows allow."""
        pictures, absent = [], []
        for figure in figures:
            try:
                pictures.append(self._picture(figure))
            except InputError as error:
                absent.append((figure, error.what.removeprefix("there is nothing to draw: ")))
        return Section(name, title, pictures=tuple(pictures), absent=tuple(absent), **others)

    def _picture(self, name: str) -> Picture:
        made = make_figure(self.source, name, self.ask)
        data = draw_bytes(made, self.look, style="page", form="svg")
        place, title = f"{self.prefix}-{name}", made.figure.title
        svg = inline_svg(data, prefix=place, label=f"{title} {made.caption}")
        return Picture(place, name, title, svg, made.caption, made.figure.repeats, self.root)


def _lost(source: FigureSource, ask: ReportAsk, methods: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Return the most forgotten edits with the points of their probability over edits."""
    try:
        role, where = ask.figures.role, source.storage.uri
        lost, paths = forgotten_edits(source.probes, top=ask.lost, role=role, protocol="correct", where=where)
    except InputError:
        # Without edit quality there are no edits to list; the section's figures say so.
        return ()
    rows = paths.to_pylist()
    lines, last = grouped(rows, "model", "stream", "case_id"), max((row["step"] for row in rows), default=0)
    found = []
    for row in lost.to_pylist():
        own = grouped(lines.get((row["model"], row["stream"], row["case_id"]), []), "method")
        found.append(row | {"lines": [_spark(method, steps, last, methods) for (method,), steps in own.items()]})
    return tuple(found)


def _spark(method: str, rows: Sequence[dict[str, Any]], last: int, methods: Sequence[str]) -> dict[str, Any]:
    """Return the line of one method's probability over the checkpoints since writing."""
    inner, width = _SPARK_HEIGHT - 2 * _SPARK_MARGIN, _SPARK_WIDTH / max(last, 1)
    points = [
        (round(row["step"] * width, 1), round(_SPARK_MARGIN + (1 - row["probability"]) * inner, 1)) for row in rows
    ]
    texts = ", ".join(f"{row['probability']:.2f}" for row in rows)
    return {
        "method": method,
        "mark": methods.index(method),
        "points": " ".join(f"{x},{y}" for x, y in points),
        "ends": [points[-1]],
        "tip": f"{method}\nprobability since writing\n{texts}",
    }


def _ledger_section(published: Sequence[Any], tolerance: float) -> Section:
    title = "Does it reproduce the paper?"
    if not published:
        return Section("ledger", title, "The sweep file names no published numbers (key 'published').")
    table = ledger(published, tolerance=tolerance)
    verdicts = [cells[-1].text for _, cells in table.rows]
    counts = ", ".join(
        f"{sum(text.startswith(word) for text in verdicts)} {label}"
        for word, label in (("agrees", "agree"), ("differs", "differ"), ("cannot", "cannot be compared"))
    )
    return Section("ledger", title, f"Of {len(verdicts)} published numbers {counts}.", tables=(table,))


def _facts(root: SweepRoot, shown: str) -> tuple[tuple[str, str], ...]:
    plan, trajectories = root.plan, root.plan.trajectories
    models = {f"{one.model}: {one.model_digest[:12]}, {one.dtype}" for one in trajectories}
    streams = {f"{stream_name(one)}, seed {one.seed}: {one.stream_digest[:12]}" for one in trajectories}
    evaluations = {f"{one.kind} {one.id}" for plan in trajectories for one in plan.evaluations}
    seeds = sorted({one.seed for one in trajectories})
    return (
        ("sweep", plan.name),
        ("root", shown),
        ("models, digest, dtype", "; ".join(sorted(models))),
        ("streams, digest", "; ".join(sorted(streams))),
        ("seeds", ", ".join(map(str, seeds))),
        ("evaluators", "; ".join(sorted(evaluations))),
        ("edits", f"{root.state.edits_done} of {plan.edits}"),
        ("trajectories", ", ".join(one.id for one in trajectories[:40]) + (" ..." if len(trajectories) > 40 else "")),
        *_environment(root),
        ("report made by", f"SPHERE {__version__}"),
        ("run it again", f"sphere run {shown}/{SWEEP_FILE} --root {shown} {plan.set_options}".rstrip()),
    )


def _environment(root: SweepRoot) -> list[tuple[str, str]]:
    """Return devices, versions and commits of the code that did the work, as far as they were recorded."""
    names = {"device": "devices", "code_version": "code versions", "code_commit": "code commits"}
    with connect_roots([root], views=("timings",)) as connection:
        columns = ", ".join(f"string_agg(DISTINCT {name}, ', ' ORDER BY {name})" for name in names)
        found = connection.sql(f"SELECT {columns} FROM timings").fetchall()[0]
    return [(label, text or "not recorded") for label, text in zip(names.values(), found, strict=True)]


def _file(storage: Storage) -> str:
    try:
        return storage.read_bytes(SWEEP_FILE).decode("utf-8")
    except FileNotFoundError:
        return ""
