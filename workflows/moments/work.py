"""One set of second moments to build, as plain data that crosses process boundaries. Loads no torch."""

from dataclasses import dataclass, replace
from typing import Any

from sphere_core.models.family import Family
from sphere_core.moments.packing import Amount, Packing, Pass
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.corpus import Corpus
from workflows.store.plan import MomentsRecipe

__all__ = ["BACKWARD_SHARE", "ModelName", "MomentsWork", "packing_of", "recipe_work"]

# A forward that is followed by a backward has this part of the tokens of one that is not.
BACKWARD_SHARE = 4

# Seconds between two saves of running sums, at least.
SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class ModelName:
    """A model as a replica loads it: its source, its content's digest, the network's dtype."""

    model: str
    model_digest: str
    dtype: str
    revision: str | None
    remote_code: bool
    family: Family | None = None


@dataclass(frozen=True)
class MomentsWork:
    """One set to build: model, corpus and pass; `key` names it in the store.

    `processor` says on what kind of processor and with how many threads, which change the order of sums.
    """

    key: str
    model: ModelName
    corpus: Corpus
    work: Pass
    every_seconds: float
    processor: str = ""

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the sums."""
        return {"key": self.key, "dtype": self.model.dtype, **self.work.identity()}

    @property
    def provenance(self) -> dict[str, Any]:
        """Return what the files record in addition to the model's own provenance."""
        return {
            "model": self.model.model,
            "model_digest": self.model.model_digest,
            "dtype": self.model.dtype,
            "revision": self.model.revision,
            "corpus": self.corpus.identity(),
            "corpus_name": self.corpus.label,
            "max_tokens_per_text": self.work.packing.max_tokens_per_text,
            "amount": self.work.amount.identity(),
            **({"processor": self.processor} if self.processor else {}),
        }

    @staticmethod
    def named_processor(device: str, threads: int) -> str:
        """Return a `processor`: the kind of device, and the threads that it works with."""
        return f"{device}, {threads} threads"


def packing_of(max_tokens_per_text: int, *, gradients: bool) -> Packing:
    """Return how texts are packed if no size of a forward is given; a backward holds what its forward computed."""
    whole = Packing(max_tokens_per_text)
    return replace(whole, forward_tokens=whole.forward_tokens // BACKWARD_SHARE) if gradients else whole


def recipe_work(recipe: MomentsRecipe, spec: TrajectorySpec, *, device: str) -> MomentsWork:
    """Return the work that builds the moments of a sweep's recipe on a kind of device."""
    return MomentsWork(
        key=recipe.key,
        model=ModelName(spec.model, spec.model_digest, spec.dtype, spec.revision, spec.remote_code, spec.family),
        corpus=recipe.corpus,
        work=Pass(
            recipe.layers,
            packing_of(recipe.max_tokens_per_text, gradients=recipe.gradients),
            Amount(tokens=recipe.tokens, texts=recipe.sentences),
            recipe.gradients,
        ),
        every_seconds=SAVE_SECONDS,
        processor=MomentsWork.named_processor(device, spec.threads),
    )
