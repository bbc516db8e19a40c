"""Edit quality: how many edits took, how far they carry, and what they left alone."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from evaluators.edit_metrics import edit_scores
from evaluators.encoding import PairEncoder
from evaluators.probes import ProbeTable, score_probes
from evaluators.rows import Scored, Subject
from sphere_core.models import EditableModel

__all__ = ["EditQuality", "EditQualitySettings"]

_VERSION = 1


class EditQualitySettings(BaseModel):
    """What edit quality is measured with.

    `token_budget` bounds rows x longest row of one forward pass; it moves scores by rounding only. `cohort`
    adds the efficacy of the first and of the latest so many edits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["edit_quality"] = "edit_quality"
    token_budget: PositiveInt = 4096
    cohort: PositiveInt | None = None


class EditQuality:
    """Scores all edits 1..t of a subject from one batched pass over their probes.

    Token ids are kept between checkpoints, since they depend on tokenizer and text alone; scores never are.
    """

    kind = "edit_quality"
    reads_generation = False

    def __init__(self, settings: EditQualitySettings) -> None:
        self.settings = settings
        self._encoder: PairEncoder | None = None

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score."""
        return {"kind": self.kind, "version": _VERSION, "settings": self.settings.model_dump(mode="json")}

    def score(self, subject: Subject) -> Scored:
        """Return the edit-quality rows and the table `probes`; raises InputError for a probe that cannot be encoded."""
        table = self.probe_table(subject)
        return Scored(edit_scores(table, cohort=self.settings.cohort), {"probes": table.to_arrow()})

    def probe_table(self, subject: Subject) -> ProbeTable:
        """Return the scored probes that the rows are computed from, one entry a probe and edit."""
        return score_probes(
            subject.model,
            self._encoder_for(subject.model),
            subject.requests,
            token_budget=self.settings.token_budget,
        )

    def _encoder_for(self, model: EditableModel) -> PairEncoder:
        if self._encoder is None or self._encoder.tokenizer is not model.tokenizer:
            self._encoder = PairEncoder(model.tokenizer)
        return self._encoder
