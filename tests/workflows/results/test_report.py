"""The report of a sweep with known numbers: its content, and how it behaves in a real browser if one is installed."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from figure_parts import CHECKPOINTS, LAST, METHODS, PUBLISHED, SEEDS, drawn_sweep, efficacy
from store_parts import QUALITY, trajectory
from typer.testing import CliRunner

from sphere_core.foundation.errors import InputError
from workflows.commands.report import app
from workflows.results.figures.catalogue import FIGURES
from workflows.results.figures.contract import FigureAsk
from workflows.results.report.chapter import ReportAsk
from workflows.results.report.page import report_page
from workflows.results.sql.sweep_roots import open_roots
from workflows.store.layout import PLAN_FILE
from workflows.store.plan import SweepPlan

TITLES = [title for title, *_ in METHODS]
ASK = ReportAsk(FigureAsk("argmax", "rewrite", "argmax", against="he_drift"), tolerance=0.02, lost=5)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    drawn_sweep(folder)
    return folder


@pytest.fixture(scope="module")
def bare(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep without probes, general ability, geometry and timings, so that few figures are left to draw."""
    folder = tmp_path_factory.mktemp("bare") / "root"
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("details", "general", "geometry", "timings"))
    plan = SweepPlan.model_validate_json((folder / PLAN_FILE).read_bytes())
    scored = [one.model_copy(update={"evaluations": (QUALITY,)}) for one in plan.trajectories[: len(SEEDS)]]
    bases = tuple(one for one in plan.bases if one.evaluation.kind == QUALITY.kind)
    left = plan.model_copy(update={"trajectories": tuple(scored), "bases": bases, "published": ()})
    (folder / PLAN_FILE).write_bytes(left.model_dump_json().encode())
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return report_page(open_roots([str(root)]), ASK)[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if BROWSER is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"], timeout=300_000)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def show(browser: Any, page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Open the report from disk; whatever the console says fails the test at its end."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page, encoding="utf-8")
    said: list[str] = []

    def opened(**settings: Any) -> Any:
        tab = browser.new_page(**settings)
        # A guard against what hangs, far above what load can do.
        tab.set_default_timeout(300_000)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
        tab.goto(file.as_uri())
        return tab

    yield opened
    assert said == []


def test_the_page_is_one_file_that_needs_no_other(page: str) -> None:
    assert len(page.encode()) < MOST_BYTES
    parser = _Addresses()
    parser.feed(page)
    assert parser.tags["svg"] >= len(FIGURES) - 3
    assert [address for address in parser.addresses if not address.startswith(("#", "data:image/png;base64,"))] == []
    assert "default-src 'none'" in page
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_every_figure_that_the_rows_allow_is_drawn(page: str) -> None:
    drawn = {name for name in FIGURES if f'<figure id="r0-{name}"' in page}
    assert drawn == set(FIGURES) - {"order", "finetune", "causal"}
    assert "Not drawn: order (all streams of this sweep have one order)" in page


def test_texts_of_users_are_texts(page: str) -> None:
    assert "<script>lives" not in page
    assert "&lt;script&gt;lives&lt;/script&gt;" in page
    assert page.count("<script>") == 1
    assert "alphaedit <b>" not in page.replace("&lt;", "")


def test_the_same_files_give_the_same_page(bare: Path) -> None:
    first, second = (report_page(open_roots([str(bare)]), ASK)[0] for _ in range(2))
    assert first == second


def test_the_table_to_copy_holds_what_the_page_shows(page: str) -> None:
    areas = dict(re.findall(r'<textarea id="(r0-table-main-\w+)"[^>]*>(.*?)</textarea>', page, re.DOTALL))
    rows = list(csv.DictReader(io.StringIO(areas["r0-table-main-CSV"].replace("&lt;", "<").replace("&gt;", ">"))))
    found = {row["method"]: row["efficacy (argmax)"] for row in rows}
    values = [efficacy("memit+sphere s.8", seed, LAST) for seed in SEEDS]
    assert found["memit+sphere s.8"] == f"{fmean(values):.3f} ± {stdev(values):.3f}"
    # One of memit's seeds collapsed: the mean of the others is not shown.
    assert found["memit"] == "collapsed 1/3"
    latex = areas["r0-table-main-LaTeX"]
    assert latex.count("\\\\") == 1 + len(rows)
    assert r"\begin{tabular}" in latex
    assert r"\pm" in latex


def test_sorting_by_number_by_text_and_what_is_missing_last(show: Callable[..., Any]) -> None:
    tab = show()
    column = tab.locator("#r0-table-main th", has_text="efficacy (argmax)")

    def methods() -> list[str]:
        return tab.locator("#r0-table-main tbody tr td:first-child").all_inner_texts()

    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "ascending"
    ends = {title: [efficacy(title, seed, LAST) for seed in SEEDS] for title in TITLES if title != "memit"}
    ordered = sorted(ends, key=lambda title: fmean(ends[title]))
    assert methods() == ["(unedited)", *ordered, "memit"]
    column.get_by_role("button").press("Enter")
    assert column.get_attribute("aria-sort") == "descending"
    assert methods() == [*reversed(ordered), "(unedited)", "memit"]
    tab.locator("#r0-table-main th").first.get_by_role("button").click()
    assert methods() == sorted(methods(), key=str.casefold)
    assert column.get_attribute("aria-sort") is None
    tab.close()


def test_a_toggle_hides_a_method_everywhere_and_shows_it_again(show: Callable[..., Any]) -> None:
    tab = show()
    title = "memit+sphere s.5"
    marks = tab.locator(f'#r0-scores [data-method="{title}"]')
    assert marks.count() > 3
    box = tab.get_by_role("checkbox", name=title)
    box.press("Space")
    for mark in (marks.first, tab.locator(f'#r0-table-main tr[data-method="{title}"]')):
        assert not mark.is_visible()
    assert tab.locator('#r0-table-main tr[data-method="memit"]').is_visible()
    box.press("Space")
    assert tab.locator(f'#r0-table-main tr[data-method="{title}"]').is_visible()
    tab.close()


def test_values_under_the_pointer_and_by_arrow_keys(show: Callable[..., Any]) -> None:
    tab = show()
    title, first = "alphaedit <b>", CHECKPOINTS[0]
    mark = tab.locator(f'#r0-scores [data-method="{title}"] use[data-tip]').first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    tip = tab.locator("#tip")
    value = fmean(efficacy(title, seed, first) for seed in SEEDS)
    assert tip.is_visible()
    assert tip.inner_text().startswith(f"{title}\nefficacy {value:.4g}")
    assert f"at {first} edits" in tip.inner_text()
    tab.keyboard.press("Escape")
    assert not tip.is_visible()
    tab.locator("#r0-cohorts .drawing").focus()
    seen = []
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
        seen.append(tip.inner_text())
    assert len(set(seen)) == 3
    assert all("written up to edit" in text for text in seen)
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["y"] >= 0
    tab.close()


def test_a_published_number_has_a_hollow_mark_with_its_value(show: Callable[..., Any]) -> None:
    tab = show()
    tips = tab.locator("#r0-scores [data-tip]").evaluate_all("marks => marks.map(mark => mark.dataset.tip)")
    assert [tip for tip in tips if "published" in tip] == [
        f"alphaedit <b>, published\nefficacy {PUBLISHED} at {LAST} edits"
    ]
    assert [tip for tip in tips if "collapsed" in tip] != []
    tab.close()


def test_dark_light_print_and_a_narrow_screen(show: Callable[..., Any]) -> None:
    tab = show(color_scheme="dark", viewport={"width": 320, "height": 700})

    def paper() -> int:
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    def ink() -> str:
        return str(tab.evaluate("getComputedStyle(document.querySelector('#r0-scores svg text')).fill"))

    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    assert paper() < 150
    dark_ink = ink()
    tab.locator("#theme").click()
    assert paper() > 700
    assert ink() != dark_ink
    tab.locator("#theme").click()
    assert paper() < 150
    tab.emulate_media(media="print")
    assert paper() > 700
    assert not tab.locator(".toggles").first.is_visible()
    tab.close()


def test_the_command_writes_one_file(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(
        app,
        [str(bare), str(bare), "--out", str(tmp_path / "r.html")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    page = (tmp_path / "r.html").read_text()
    assert page.count("<article") == 2
    with pytest.raises(InputError, match="cannot be written"):
        CliRunner().invoke(
            app, [str(bare), "--out", str(tmp_path / "no" / "r.html"), "--protocol", "no"], catch_exceptions=False
        )


def test_watch_writes_until_the_sweep_is_complete(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trajectory that is planned and not begun keeps it going, until the plan has none."""
    copy = tmp_path / "copy"
    shutil.copytree(bare, copy)
    whole = (copy / PLAN_FILE).read_bytes()
    plan = SweepPlan.model_validate_json(whole)
    waiting = trajectory("later", 0, edits=LAST, wanted=CHECKPOINTS)
    longer = plan.model_copy(update={"trajectories": (*plan.trajectories, waiting)})
    (copy / PLAN_FILE).write_bytes(longer.model_dump_json().encode())
    pages = []

    def finish(seconds: float) -> None:
        pages.append((tmp_path / "w.html").read_text())
        (copy / PLAN_FILE).write_bytes(whole)

    monkeypatch.setattr("time.sleep", finish)
    arguments = [
        str(copy),
        "--out",
        str(tmp_path / "w.html"),
        "--watch",
        "--every",
        "7",
        "--protocol",
        "no",
        "--lost",
        "0",
    ]
    done = CliRunner().invoke(app, [*arguments, "--against", "no"], catch_exceptions=False)
    assert done.exit_code == 0
    (while_running,) = pages
    assert '<meta http-equiv="refresh" content="7">' in while_running
    assert "not finished: later, seed 0, planned" in while_running
    assert 'http-equiv="refresh"' not in (tmp_path / "w.html").read_text()
