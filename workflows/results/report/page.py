"""Sweeps as one self-contained HTML page that opens from disk: no network, no other file."""

import csv
import io
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from workflows.results.report.chapter import Chapter, ReportAsk, chapter_of
from workflows.results.report.page_tables import PageTable, table_latex
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.terminal.escape import one_line

__all__ = ["report_page"]


def report_page(
    roots: Sequence[SweepRoot], ask: ReportAsk, *, refresh: int | None = None, shown: Sequence[str] = ()
) -> tuple[str, bool]:
    """Return the page of one or more sweeps, and whether all of them are complete.

    `refresh`: seconds after which a browser reads the page again while a sweep is not complete. `shown` are the roots
    as the page is to name them, if not by their URIs. The same files give the same page. Raises InputError for a root
    of which nothing is scored.
    """
    named = zip(roots, shown or [root.name for root in roots], strict=True)
    chapters = [chapter_of(root, ask, prefix=f"r{place}", shown=name) for place, (root, name) in enumerate(named)]
    complete = all(chapter.complete for chapter in chapters)
    return _rendered(chapters, None if complete else refresh), complete


def _rendered(chapters: Sequence[Chapter], refresh: int | None) -> str:
    loader = PackageLoader("workflows.results.report")
    # LaTeX has its own special characters, which table_latex escapes.
    plain = Environment(loader=loader, autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style, script = (loader.get_source(plain, name)[0] for name in ("page.css", "page.js"))
    return pages.get_template("page.html.j2").render(
        chapters=chapters,
        refresh=refresh,
        style=style,
        script=script,
        markers=max(len(chapter.methods) for chapter in chapters),
        latex=lambda table: table_latex(table, plain),
        csv=_csv,
    )


def _csv(table: PageTable) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([name for name, _ in table.columns])
    for _, cells in table.rows:
        writer.writerow([one_line(cell.text) for cell in cells])
    return sink.getvalue()
