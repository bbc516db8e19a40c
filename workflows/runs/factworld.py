"""Training the embedded model from scratch, with its progress on a console."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sphere_core.datasets.factworld.recall import RecallReport
from sphere_core.datasets.factworld.training import Progress as Training
from sphere_core.datasets.factworld.training import read_settings, shipped_settings, train_factworld

__all__ = ["train_embedded_model"]


def train_embedded_model(*, out: Path, settings: Path | None, console: Console) -> RecallReport:
    """Train tokenizer and model, write the model folder `out`, and return its recall.

    `settings` is a YAML file (None: those of the shipped model). Raises InputError, with nothing written, where `out`
    holds anything but an earlier fact-world model or where a setting is wrong.
    """
    chosen = shipped_settings() if settings is None else read_settings(settings)
    columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=chosen.steps)

        def show(training: Training) -> None:
            text = f"loss {training.loss:.3f}, {training.tokens_per_second:.0f} tokens/s"
            progress.update(bar, completed=training.step, description=text)

        return train_factworld(out, settings=chosen, on_progress=show)
