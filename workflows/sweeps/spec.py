"""The sweep file: a grid of trajectories, the checkpoint schedule, the evaluators and the resources.

*What* is computed (models, streams, methods, seeds, batch size, contexts, moments, threads) is part of a trajectory's
identity. *How* it is computed (other resources, root, checkpoint cadence) is not.
"""

from collections import Counter
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from sphere_core.foundation.errors import nearest_name
from sphere_core.locate.templates import ContextSettings
from sphere_core.streams.stream import StreamSpec
from workflows.store.plan import PublishedEntry
from workflows.store.policies import Keep, Watchdog
from workflows.sweeps.resources import Part, Resources
from workflows.sweeps.tuning_entry import AfterwardsEntry

__all__ = [
    "ContextsEntry",
    "EvaluatorsEntry",
    "MethodEntry",
    "ModelEntry",
    "MomentsEntry",
    "NotifyEntry",
    "SweepSpec",
    "method_mapping",
    "model_mapping",
]

EMBEDDED = {"source": "factworld", "dtype": "float32", "preset": "factworld"}

# Far beyond any corpus, and far below what never ends.
_MOST_TEXTS, _MOST_TOKENS = 10**9, 10**12


def model_mapping(value: Any) -> Any:
    """Return the keys of a model given as `factworld`; anything else as it is."""
    return dict(EMBEDDED) if value == EMBEDDED["source"] else value


def method_mapping(value: Any) -> Any:
    """Return the keys of a method given by its name; anything else as it is."""
    return {"name": value} if isinstance(value, str) else value


class ModelEntry(Part):
    """A model of the grid."""

    source: str = Field(description="Folder, hub id, or `factworld` for the embedded model")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description="The network's dtype; never taken from files")
    preset: str = Field(description="Preset that methods start from: a name, or a YAML file")
    revision: str | None = Field(default=None, description="Commit, tag or branch of a hub id; the commit is recorded")
    trust_remote_code: bool = Field(
        default=False, description="Run Python files that come with the model; they enter its digest"
    )
    name: str | None = Field(default=None, description="Name in tables; default: the last part of `source`")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        found = model_mapping(value)
        if isinstance(found, str):
            embedded = EMBEDDED["source"]
            near = f"; did you mean '{embedded}'?" if nearest_name(found, (embedded,)) else ""
            raise ValueError(
                f"write {{source: {found}, dtype: ..., preset: ...}}: only `{embedded}` has these built in{near}"
            )
        return found

    @property
    def label(self) -> str:
        """The model's name in rows and tables."""
        return self.name or self.source.rstrip("/").rsplit("/", 1)[-1]


class MomentsSize(Part):
    """How much of the sweep's corpus a method's second moments are of."""

    sentences: int | None = Field(default=None, ge=1, le=_MOST_TEXTS, description="Texts taken from the corpus")
    tokens: int | None = Field(default=None, ge=1, le=_MOST_TOKENS, description="Tokens taken from the corpus")

    @model_validator(mode="after")
    def _one(self) -> "MomentsSize":
        if (self.sentences is None) == (self.tokens is None):
            raise ValueError("give `sentences` or `tokens`, one of them")
        return self


class MethodEntry(Part):
    """A method of the grid, with its departures from the preset."""

    name: str = Field(description="A method, `memit` or `alphaedit+sphere`; `sphere methods` lists them")
    hyperparameters: dict[str, Any] = Field(default_factory=dict, description="Overrides on top of the preset")
    file: str | None = Field(default=None, description="MEMIT-style JSON file that replaces the preset")
    label: str | None = Field(default=None, description="Name in tables; needed where one method appears twice")
    batch_size: int | None = Field(default=None, ge=1, description="Edits written together, in place of the sweep's")
    moments: MomentsSize | None = Field(
        default=None, description="How much of the sweep's corpus to take, in place of the sweep's amount"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return method_mapping(value)

    @property
    def title(self) -> str:
        """The method's name in rows and tables."""
        return self.label or self.name


class MomentsEntry(Part):
    """Source of second moments: built from a corpus, imported from a file, or taken from the store."""

    corpus: str | tuple[str, ...] | None = Field(
        default=None, description="`factworld`, text, JSONL or Parquet files, or a hub id such as wikimedia/wikipedia"
    )
    sentences: int | None = Field(default=None, ge=1, le=_MOST_TEXTS, description="Texts taken from the corpus")
    tokens: int | None = Field(
        default=None, ge=1, le=_MOST_TOKENS, description="Tokens taken from the corpus, in place of `sentences`"
    )
    config: str | None = Field(default=None, description="Configuration of a hub corpus")
    revision: str | None = Field(default=None, description="Commit of a hub corpus")
    field: str = Field(default="text", description="Field that holds the text in JSONL, Parquet and hub corpora")
    seed: int = Field(default=0, description="Seed of the embedded corpus")
    max_tokens_per_text: int = Field(default=1024, ge=1, le=1_000_000, description="Longer texts are cut there")
    file: str | None = Field(default=None, description="npz with `layer{l}` arrays, our safetensors, or a folder")
    stored: str | None = Field(default=None, description="Key of a set in the store; `sphere moments list` shows them")

    @model_validator(mode="after")
    def _one_source(self) -> "MomentsEntry":
        if sum(source is not None for source in (self.corpus, self.file, self.stored)) != 1:
            raise ValueError("give either `corpus` (with `sentences` or `tokens`), `file` or `stored`")
        if self.corpus is not None and (self.sentences is None) == (self.tokens is None):
            raise ValueError("`corpus` needs `sentences` or `tokens`, one of them: how much of it to take")
        return self


class ContextsEntry(ContextSettings):
    """Context templates: sampled from the unedited model, or read from a file."""

    file: str | None = Field(default=None, description="JSON list of template groups, used as they are")


class EvaluatorsEntry(Part):
    """The evaluators of every checkpoint; one that is left out does not run. Settings are the evaluator's own.

    Other keys are evaluators of plugins.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    edit_quality: dict[str, Any] | None = Field(default=None, description="Efficacy, generalization, specificity")
    general: dict[str, Any] | None = Field(default=None, description="General ability through lm-eval")
    geometry: dict[str, Any] | None = Field(default=None, description="Hyperspherical energy and |dW|")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        # `geometry:` with nothing after it reads as null in YAML; it means the evaluator's defaults.
        return {key: {} if item is None else item for key, item in value.items()} if isinstance(value, dict) else value

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the given evaluators, by kind."""
        given = {"edit_quality": self.edit_quality, "general": self.general, "geometry": self.geometry}
        given |= self.model_extra or {}
        return {kind: settings for kind, settings in given.items() if settings is not None}


class NotifyEntry(Part):
    """Messages when a run ends, through Apprise (the extra `notify`). Changes no number."""

    to: tuple[str, ...] = Field(
        min_length=1,
        description="Addresses in Apprise's form, `ntfy://topic`; `$NAME` is an environment variable that holds one, "
        "because the sweep file is stored and shared",
    )
    events: tuple[Literal["done", "failed", "stopped"], ...] = Field(
        default=("done", "failed", "stopped"), min_length=1, description="How a run must end for a message"
    )


class SweepSpec(Part):
    """A sweep: models x streams x methods x seeds, all with the same batches and evaluators."""

    name: str = Field(
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Names the folder runs/NAME: letters, digits, '.', '_' and '-', a letter or digit first",
    )
    models: tuple[ModelEntry, ...] = Field(
        min_length=1, description="Models to edit: `factworld`, or {source, dtype, preset}"
    )
    streams: tuple[StreamSpec, ...] = Field(min_length=1, description="Ordered lists of edit requests")
    methods: tuple[MethodEntry, ...] = Field(min_length=1, description="Methods, lower case, `+` for a regularizer")
    plugins: tuple[str, ...] = Field(
        default=(), description="Python files with rows of your own, relative to this file; their code is run"
    )
    seeds: tuple[int, ...] = Field(min_length=1, description="Seeds of order and context templates")
    batch_size: int = Field(ge=1, description="Edits written together")
    checkpoint_every: int = Field(
        ge=1, description="Edits between two checkpoints, a multiple of batch_size; the last batch is always one"
    )
    keep_keys: bool = Field(
        default=False, description="Keep the key of every edit, half precision; `sphere retention` then compares them"
    )
    moments: MomentsEntry | None = Field(default=None, description="Second moments of the sites' inputs")
    contexts: ContextsEntry = Field(default_factory=ContextsEntry, description="Context templates")
    keep: Keep = Field(
        default=Keep(),
        description="Checkpoints that stay whole once they are scored: `all`, `last N`, or `every K` (edits); "
        "of the others the manifest and all rows stay",
    )
    watchdog: Watchdog | None = Field(
        default=None,
        description="Stops a trajectory whose checkpoints pass a limit: {he_drift: X, collapsed_checkpoints: N}",
    )
    evaluators: EvaluatorsEntry = Field(description="What scores every checkpoint")
    resources: Resources = Field(default_factory=Resources, description="Threads, CPUs, GPUs, replicas")
    notify: NotifyEntry | None = Field(
        default=None, description="Messages when a run ends: {to: [$NAME], events: [failed]}"
    )
    published: tuple[PublishedEntry, ...] = Field(default=(), description="Numbers of papers, to print beside ours")
    afterwards: tuple[AfterwardsEntry, ...] = Field(
        default=(), description="Fine-tunings of checkpoints, each with every trajectory of the grid"
    )

    @field_validator("methods")
    @classmethod
    def _distinct_methods(cls, methods: tuple[MethodEntry, ...]) -> tuple[MethodEntry, ...]:
        _refuse_repeats("method", [method.title for method in methods], "give the second one a `label`")
        return methods

    @field_validator("streams")
    @classmethod
    def _distinct_streams(cls, streams: tuple[StreamSpec, ...]) -> tuple[StreamSpec, ...]:
        names = [f"{stream.name}, {stream.order_name}, {stream.edits} edits" for stream in streams]
        _refuse_repeats("stream", names, "give the second one a `label`, so that tables can distinguish them")
        return streams

    @field_validator("models")
    @classmethod
    def _distinct_models(cls, models: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
        _refuse_repeats("model", [model.label for model in models], "give the second one a `name`")
        return models

    @field_validator("afterwards")
    @classmethod
    def _distinct_tunings(cls, afterwards: tuple[AfterwardsEntry, ...]) -> tuple[AfterwardsEntry, ...]:
        _refuse_repeats("fine-tuning", [entry.title for entry in afterwards], "give the second one a `label`")
        return afterwards

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        _refuse_repeats("seed", [str(seed) for seed in seeds], "name each seed once")
        return seeds

    @model_validator(mode="after")
    def _watched_is_scored(self) -> "SweepSpec":
        if self.watchdog is not None and self.watchdog.he_drift is not None and self.evaluators.geometry is None:
            raise ValueError("watchdog.he_drift needs the evaluator `geometry`: add `geometry: {}` to the evaluators")
        return self

    @model_validator(mode="after")
    def _whole_batches(self) -> "SweepSpec":
        if self.checkpoint_every % self.batch_size:
            raise ValueError(
                f"checkpoint_every ({self.checkpoint_every}) must be a multiple of batch_size ({self.batch_size})"
            )
        return self

    @property
    def has_own_batches(self) -> bool:
        """Whether methods of this sweep have batches of their own size: then a stream's name does not hold the size."""
        return any(self.batch_size_of(method) != self.batch_size for method in self.methods)

    def batch_size_of(self, method: MethodEntry) -> int:
        """Return the batch size of a method."""
        return method.batch_size or self.batch_size

    def moments_of(self, method: MethodEntry) -> MomentsEntry | None:
        """Return the source of a method's second moments."""
        if self.moments is None or method.moments is None:
            return self.moments
        return self.moments.model_copy(update=method.moments.model_dump())

    def wanted_checkpoints(self, edits: int) -> tuple[int, ...]:
        """Return the edit counts whose checkpoints are kept and scored, the last one always among them."""
        return (*range(self.checkpoint_every, edits, self.checkpoint_every), edits)


def _refuse_repeats(kind: str, names: list[str], remedy: str) -> None:
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise ValueError(f"the {kind} '{repeated}' appears twice: {remedy}")
