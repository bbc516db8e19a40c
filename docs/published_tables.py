"""The numbers of papers that the sweep files in examples/ name, as Markdown: a table per file, model and data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from workflows.store.plan import PublishedEntry

__all__ = ["count_cells", "published_cells", "published_entries"]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def published_entries() -> dict[str, list[PublishedEntry]]:
    """Return what each sweep file in examples/ has under `published`, by the file's name, sorted."""
    found = {}
    for path in sorted(EXAMPLES.rglob("*.yaml")):
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("published"):
            name = path.relative_to(EXAMPLES.parent).as_posix()
            found[name] = [PublishedEntry.model_validate(entry) for entry in content["published"]]
    return found


def count_cells(entry: PublishedEntry) -> int:
    """Return how many numbers an entry has; a value that its paper does not print is none."""
    return sum(value is not None for values in entry.values.values() for value in values)


def published_cells() -> str:
    """Return all of them: a section per file, a table per entry, in whose head each metric has its tolerance."""
    return "\n".join(line for name, entries in published_entries().items() for line in _section(name, entries))


def _section(name: str, entries: list[PublishedEntry]) -> Iterator[str]:
    yield f"\n### `{name}`\n\n{sum(map(count_cells, entries))} numbers.\n"
    for entry in entries:
        what = f"Spearman of `{entry.against}` with scores, " if entry.against else ""
        compared = f"{entry.model}, {entry.dataset}, {entry.edits:,} edits, protocol `{entry.protocol}`"
        yield f"{what}{entry.source}: {compared}\n"
        tolerances = entry.tolerance or (None,) * len(entry.metrics)
        heads = [_head(metric, tolerance) for metric, tolerance in zip(entry.metrics, tolerances, strict=True)]
        yield f"| method | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}"
        for method, values in entry.values.items():
            yield f"| {method} | {' | '.join('' if value is None else f'{value:g}' for value in values)} |"
        yield ""


def _head(metric: str, tolerance: float | None) -> str:
    return metric if tolerance is None else f"{metric} (± {tolerance:g})"
