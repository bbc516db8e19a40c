"""Which second moments a trajectory uses, as plain data. Loads no torch."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

__all__ = ["MomentsSpec"]


class MomentsSpec(BaseModel):
    """Second moments by their content: a file, numbers made in memory, or how they are built from a corpus.

    What is not given is not stored; without any key there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_digest: str | None = Field(default=None, description="Digest of an imported file, or of a folder's files")
    digest: str | None = Field(default=None, description="Digest of the numbers of moments that were made in memory")
    corpus: dict[str, Any] | None = Field(default=None, description="Identity of the corpus they are built from")
    tokens: int | None = Field(default=None, description="Tokens taken from the corpus")
    sentences: int | None = Field(default=None, description="Texts taken from the corpus, in place of `tokens`")
    seed: int | None = Field(default=None, description="Seed of the embedded corpus")
    max_tokens_per_text: int | None = Field(default=None, description="Longer texts are cut there")
    model_digest: str | None = Field(default=None, description="Digest of the model whose inputs are summed")
    dtype: str | None = Field(default=None, description="The network's dtype while they are built")
    threads: int | None = Field(default=None, description="CPU threads while they are built")
    gradients: Literal[True] | None = Field(default=None, description="With those of output gradients")

    @model_validator(mode="after")
    def _of_one_source(self) -> Self:
        sources = sum(source is not None for source in (self.file_digest, self.digest, self.corpus))
        if sources > 1 or (self.corpus is not None) != ((self.tokens is None) != (self.sentences is None)):
            raise ValueError("second moments are of a file, of numbers, or of `tokens` or `sentences` of a corpus")
        return self

    @model_serializer(mode="wrap")
    def _what_is_given(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in fields(self).items() if value is not None}

    @property
    def is_given(self) -> bool:
        """Whether there are any."""
        return any(source is not None for source in (self.file_digest, self.digest, self.corpus))

    def identity(self) -> dict[str, Any]:
        """Return their part of a trajectory's identity."""
        return self.model_dump(mode="json")
