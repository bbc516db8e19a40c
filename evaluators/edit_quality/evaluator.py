"""Edit quality: how many edits took, how far they carry, and what they left alone."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from evaluators.base import Health, Score, Scored, Subject, make_score
from evaluators.edit_quality.agreement import agreeing
from evaluators.edit_quality.conditions import unknown_facts
from evaluators.edit_quality.encoding import Encoder, PairEncoder
from evaluators.edit_quality.free_running import generated_scores
from evaluators.edit_quality.metrics import probe_rows
from evaluators.edit_quality.paper_encoding import PaperEncoder
from evaluators.edit_quality.probes import ProbeTable, probe_texts, score_probes
from evaluators.edit_quality.rows import edit_scores
from evaluators.edit_quality.sample import EditSample, sample_edits
from evaluators.edit_quality.settings import EditProtocol, EditQualitySettings
from evaluators.edit_quality.unedited_answers import UneditedAnswers
from sphere_core.models import EditableModel

__all__ = ["EditQuality", "EditQualitySettings"]

# A processor is fastest while activations fit its caches, an accelerator when it is full.
_PROCESSOR_TOKENS, _ACCELERATOR_TOKENS = 1024, 8192


class EditQuality:
    """Scores the edits 1..t of a subject in one batched pass over their probes per protocol.

    Token ids are kept between checkpoints, since they depend on tokenizer and text alone; scores never are.
    """

    kind = "edit_quality"
    reads_previous = False
    reads_moments = False

    def __init__(self, settings: EditQualitySettings) -> None:
        self.settings = settings
        self.reads_generation = settings.reads_generation
        self._encoders: dict[EditProtocol, Encoder] = {}
        # Two memories, since each holds the list of the last checkpoint.
        self._before, self._conditions = UneditedAnswers(), UneditedAnswers()

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score."""
        return self.settings.identity()

    def score(self, subject: Subject) -> Scored:
        """Return the edit-quality rows and the scored probes; raises InputError for a probe that cannot be encoded.

        Tables: `probes`, one row per probe and protocol; for the unedited model also `probe_texts`, their texts; with
        `generation` also `generations`, the generated texts.
        """
        rows: list[Score] = []
        tables: list[pa.Table] = []
        for protocol in self.settings.protocols:
            table = self.probe_table(subject, protocol)
            sample = self._sample(subject)
            rows.extend(edit_scores(table, cohort=self.settings.cohort, protocol=protocol, sample=sample))
            tables.append(probe_rows(table, protocol))
        rows.extend(_storage_rows(subject))
        named = {"probes": pa.concat_tables(tables)}
        if subject.edits == 0:
            named["probe_texts"] = probe_texts(subject.requests)
        if self.settings.generation is not None:
            budget = self._token_budget(subject.model)
            free = generated_scores(subject, self.settings.generation, seed=self.settings.seed, token_budget=budget)
            rows.extend(free.rows)
            named.update(free.tables)
        return Scored(rows, named)

    def probe_table(self, subject: Subject, protocol: EditProtocol = "correct") -> ProbeTable:
        """Return the scored probes that the rows are computed from, one entry a probe and edit."""
        model, sample = subject.model, self._sample(subject)
        encoder, budget = self._encoder_for(model, protocol), self._token_budget(model)
        chosen = None if sample is None else sample.places
        # Conditions are asked alike under every protocol, so that all of them score the same probes.
        asks = self._encoder_for(model, "correct")
        unknown = unknown_facts(self._conditions, model, asks, subject.requests, chosen, token_budget=budget)
        table = score_probes(model, encoder, subject.requests, token_budget=budget, chosen=chosen, unknown=unknown)
        if protocol != "correct" or not self.settings.agreement:
            return table
        asked = np.unique(table.target[table.role == "neighborhood"])
        agreed = agreeing(self._before, model, encoder, table.pairs, table.scores, asked, token_budget=budget)
        return replace(table, agreed=agreed)

    def _token_budget(self, model: EditableModel) -> int:
        if self.settings.token_budget is not None:
            return self.settings.token_budget
        return _PROCESSOR_TOKENS if model.device.type == "cpu" else _ACCELERATOR_TOKENS

    def _sample(self, subject: Subject) -> EditSample | None:
        if self.settings.sample is None:
            return None
        return sample_edits(len(subject.requests), self.settings.sample, self.settings.seed)

    def _encoder_for(self, model: EditableModel, protocol: EditProtocol) -> Encoder:
        known = self._encoders.get(protocol)
        if known is None or known.tokenizer is not model.tokenizer:
            known = PairEncoder(model.tokenizer) if protocol == "correct" else PaperEncoder(model.tokenizer, protocol)
            self._encoders[protocol] = known
        return known


def _storage_rows(subject: Subject) -> list[Score]:
    """Return what an attachment stores per edit, in bytes of its tensors."""
    attachment = subject.model.attachment
    if attachment is None or subject.edits == 0:
        return []
    size = attachment.size / subject.edits
    health = Health(subject.edits, 0, 0)
    name, protocol = "stored_bytes_per_edit", "tensors"
    return [make_score(name, protocol, size, None, n=subject.edits, health=health, higher_is_better=False)]
