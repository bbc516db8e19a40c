"""What edit quality is measured with. Loads no model and no torch, so that a sweep file is checked at once."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

__all__ = ["EditProtocol", "EditQualitySettings", "FluencySettings", "GenerationSettings", "Stop", "Words"]

_VERSION = 2

EditProtocol = Literal["correct", "paper-memit", "paper-alphaedit", "paper-sphere"]
Stop = Literal["eos", "newline", "sentence"]
Words = Literal["whitespace", "regex-words"]


class FluencySettings(BaseModel):
    """How generation prompts are continued for fluency and consistency.

    As released: 100 tokens with the prompt's, each drawn from the 5 most likely, never stopping early. The protocol
    names the word tokenizer; the released one requires data files from the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Words = Field(default="regex-words", description="How a text is split into words; part of the protocol")
    length: PositiveInt = Field(default=100, description="Tokens per text, the prompt included")
    decoding: Literal["sampled", "greedy"] = Field(
        default="sampled", description="Draw from the `top_k` most likely tokens, or take the most likely"
    )
    top_k: PositiveInt = Field(default=5, description="Sampled among this many most likely tokens")

    @property
    def protocol(self) -> str:
        """The protocol in the rows."""
        return f"{'greedy' if self.decoding == 'greedy' else f'top-{self.top_k}'}-{self.length}/{self.words}"


class GenerationSettings(BaseModel):
    """Which prompts are continued freely, how far, and for how many edits; `every` and `sample` exclude each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: PositiveInt | None = Field(
        default=None, description="Every Nth edit of the stream (the released `generation_test_interval`)"
    )
    sample: PositiveInt | None = Field(default=None, description="N of the edits so far, stratified by age")
    tokens: PositiveInt = Field(default=16, description="Tokens per answer at most")
    stops: tuple[Stop, ...] = Field(
        default=("eos", "newline", "sentence"), description="What ends an answer before that"
    )
    roles: tuple[Literal["rewrite", "paraphrase", "neighborhood", "portability", "multi_hop"], ...] = Field(
        default=("rewrite", "paraphrase", "neighborhood", "portability", "multi_hop"),
        description="Probe roles whose prompts are continued",
    )
    fluency: FluencySettings | None = Field(default=None, description="Fluency and consistency; off by default")

    @model_validator(mode="after")
    def _one_subset(self) -> "GenerationSettings":
        if self.every is not None and self.sample is not None:
            raise ValueError("give `every` or `sample`, not both")
        return self


class EditQualitySettings(BaseModel):
    """Edit quality: efficacy, generalization, specificity and related scores of the edits so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["edit_quality"] = "edit_quality"
    protocols: tuple[EditProtocol, ...] = Field(
        default=("correct",),
        min_length=1,
        description="`correct` holds for every tokenizer; the others reproduce released evaluations, faults included",
    )
    token_budget: PositiveInt | None = Field(
        default=None,
        description="Rows x longest row of one forward pass; changes scores by rounding only; default: by device",
    )
    cohort: PositiveInt | None = Field(
        default=None, description="Also score the first N and the latest N edits separately"
    )
    sample: PositiveInt | None = Field(
        default=None, description="Score N of the edits so far, drawn in proportion from ten strata of equal age"
    )
    seed: int = Field(default=0, description="Seed of samples and of sampled generation")
    agreement: bool = Field(
        default=True, description="Compare neighborhood predictions with those of the unedited model"
    )
    generation: GenerationSettings | None = Field(
        default=None, description="Free-running metrics; one forward pass per generated token"
    )

    @property
    def reads_generation(self) -> bool:
        """Whether what only free generation is scored by enters the scores."""
        return self.generation is not None and self.generation.fluency is not None

    def identity(self) -> dict[str, object]:
        """Return everything but the subject that can change a score."""
        return {"kind": self.kind, "version": _VERSION, "settings": self.model_dump(mode="json")}

    @field_validator("protocols", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("protocols")
    @classmethod
    def _distinct(cls, protocols: tuple[EditProtocol, ...]) -> tuple[EditProtocol, ...]:
        if len(set(protocols)) < len(protocols):
            raise ValueError("a protocol is named twice")
        return protocols
