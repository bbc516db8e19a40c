"""A layout file: which rows and columns a table has, how they are called, and which spread its cells carry."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.model_errors import as_input_error
from sphere_core.foundation.yaml_files import read_yaml

__all__ = ["SPREADS", "ColumnAsk", "GroupAsk", "Layout", "RowAsk", "Spread", "read_layout"]

Spread = Literal["sd-seeds", "se-seeds", "ci95-seeds", "se-records", "ci95-records", "none"]
# How a spread is named where it is shown.
SPREADS: dict[Spread, str] = {
    "sd-seeds": "mean ± standard deviation over seeds",
    "se-seeds": "mean ± standard error over seeds",
    "ci95-seeds": "mean ± half of the 95 % interval over seeds (Student)",
    "se-records": "mean over seeds ± standard error over records",
    "ci95-records": "mean over seeds ± half of the 95 % interval over records (normal)",
    "none": "mean over seeds",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowAsk(_Part):
    """A row: one method."""

    method: str = Field(description="The method's name in the sweep file: its `label`, or its name")
    name: str | None = Field(default=None, description="Printed name; default: the method's")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @property
    def title(self) -> str:
        """The printed name."""
        return self.name or self.method


class GroupAsk(_Part):
    """A group of columns: one model on one data set. What is left out is not restricted."""

    name: str = Field(description="Printed above the columns")
    model: str | None = Field(default=None, description="The model's name in tables")
    dataset: str | None = Field(default=None, description="The data set's name in tables")
    order: str | None = Field(default=None, description="Order of the stream")
    edits: int | None = Field(default=None, ge=1, description="Edits of the whole stream")


class ColumnAsk(_Part):
    """A column: one metric under one protocol."""

    metric: str = Field(description="Metric, such as efficacy, general_mean, word_perplexity or he_drift")
    protocol: str | None = Field(default=None, description="Protocol; needed where rows have several")
    task: str | None = Field(default=None, description="Task or suite of general ability")
    edits: int | None = Field(default=None, ge=1, description="Checkpoint; default: the layout's")
    name: str | None = Field(default=None, description="Printed name; default: the metric")
    percent: bool | None = Field(default=None, description="Print times 100; default: the layout's")
    decimals: int | None = Field(default=None, ge=0, le=8, description="Decimals; default: the layout's")
    better: Literal["higher", "lower", "neither"] | None = Field(
        default=None, description="Which direction is better; default: as the rows say"
    )

    @property
    def title(self) -> str:
        """The printed name."""
        return self.name or self.metric.replace("_", " ")


class Layout(_Part):
    """A table of a paper."""

    title: str = Field(default="", description="Printed above the table")
    rows: tuple[RowAsk, ...] = Field(default=(), description="Methods from top to bottom; default: all, as planned")
    unedited: str | None = Field(default="unedited", description="Name of the unedited model's row; null: no such row")
    groups: tuple[GroupAsk, ...] = Field(
        default=(), description="Groups of columns; default: one for each model and stream"
    )
    columns: tuple[ColumnAsk, ...] = Field(min_length=1, description="Columns of every group, from left to right")
    edits: int | None = Field(default=None, ge=1, description="Checkpoint; default: the one that ends a trajectory")
    percent: bool = Field(default=False, description="Print values times 100")
    decimals: int = Field(default=3, ge=0, le=8, description="Decimals of a printed value")
    spread: Spread = Field(default="sd-seeds", description="The number behind ±: over seeds, over records, or none")
    best: bool = Field(default=True, description="Best value of a column bold, second underlined")
    difference_from: str | None = Field(default=None, description="Method that the others are compared with, by seed")
    published: bool = Field(default=False, description="A row with a paper's numbers below each method that has them")
    floor: float = Field(
        default=0.05, ge=0, le=1, description="Mark scores that hold specificity where the unedited model's is below"
    )

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Numbers of edits that the layout or a column of it names."""
        named = (self.edits, *(column.edits for column in self.columns))
        return tuple(sorted({edits for edits in named if edits is not None}))

    def edits_of(self, column: ColumnAsk) -> int | None:
        """Return the checkpoint of a column; None: the one that ends a trajectory."""
        return column.edits or self.edits

    @model_validator(mode="after")
    def _distinct(self) -> "Layout":
        for kind, names in (
            ("row", [row.method for row in self.rows]),
            ("group", [group.name for group in self.groups]),
            ("column", [f"{c.metric}, {c.protocol}, {c.task}, {c.edits}" for c in self.columns]),
        ):
            repeated = next((name for name in names if names.count(name) > 1), None)
            if repeated is not None:
                raise ValueError(f"the {kind} '{repeated}' appears twice")
        return self


def read_layout(path: Path) -> Layout:
    """Read a layout file; raises InputError with file, line, key and the nearest valid name."""
    text = read_yaml(path)
    if not isinstance(text.data, dict):
        raise InputError(
            "a layout file holds keys and values", where=str(path), remedy="write 'columns: [{metric: efficacy}]'"
        )
    try:
        return Layout.model_validate(text.data)
    except ValidationError as error:
        raise as_input_error(error, Layout, text) from error
