"""Retrieval: the nearest edit, as a sentence, is put before the prompt; nothing is trained and no weight changes.

The training-free baseline behind SERAC's scope classifier (arXiv 2206.06520), IKE (2305.12740) and SCR (2606.00570).
For a prompt with tokens 1..P, whose feature is f = mean_{p <= P} a_p with a_p `[d]` the input of one site of the
unedited model (tokens that open every text left out), the model reads

    s_j + prompt   if cos(f, f_j) > threshold,   else prompt,      j = argmax_i cos(f, f_i)

f_i is the feature of the prompt of edit i, s_i its prompt and new target as a sentence. What follows the prompt does
not matter to the choice. With a sentence encoder, brought as a folder, f are its features of the prompt's text, as in
the papers; without one, a departure from them, the edited model is its own encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.companions import ScopeEncoder, sentence_encoder
from sphere_core.editors.memory.facts import with_facts
from sphere_core.editors.memory.features import prompt_feature
from sphere_core.editors.memory.sentences import NO_TOKEN, edit_sentence, with_sentences
from sphere_core.locate.prompts import opening_tokens, text_ids
from sphere_core.locate.templates import Contexts
from sphere_core.models.attachments import Attachment
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "Retrieval", "RetrievalEditor"]

KIND = "retrieve"


class Retrieval:
    """Rewrites prompts; remembers for each prompt what is put before it."""

    routes_by_prompt = False
    reads_prompts = True

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        self._model = model
        self._layer = int(attachment.number("layer"))
        self._threshold = attachment.number("threshold")
        self._units = nn.functional.normalize(attachment.tensors["features"], dim=-1)
        self._sentences = attachment.tensors["sentences"].cpu()
        self._opening = len(opening_tokens(model.tokenizer))
        self._encoder = _encoder(model, *(attachment.scalars.get(name) for name in ("encoder", "encoder_digest")))
        self._known: dict[tuple[int, ...], tuple[int, ...]] = {}

    def install(self) -> Sequence[RemovableHandle]:
        """Return no hooks: only prompts change."""
        return []

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return the row with the nearest edit behind the tokens that open every text."""
        prompt = ids[:prompt_end]
        if len(prompt) <= self._opening:
            return ids
        if prompt not in self._known:
            self._known[prompt] = self._sentence(prompt)
        return (*ids[: self._opening], *self._known[prompt], *ids[self._opening :])

    def _sentence(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        if self._encoder is None:
            feature = prompt_feature(self._model, prompt, self._layer, self._opening)
        else:
            text = str(self._model.tokenizer.decode(list(prompt), skip_special_tokens=True))
            feature = self._encoder.embedded([text])[0]
        cosines = self._units.to(feature) @ nn.functional.normalize(feature, dim=-1)
        cosine, place = cosines.clamp(max=1.0).max(dim=0)
        if not float(cosine) > self._threshold:
            return ()
        row: list[int] = self._sentences[int(place)].tolist()
        return tuple(token for token in row if token != NO_TOKEN)


@dataclass(frozen=True)
class RetrievalEditor:
    """Adds requests to the table of sentences; `encoder` is a sentence encoder's folder, `digest` of its content."""

    layer: int
    threshold: float
    encoder: str | None = None
    digest: str | None = None

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Add a batch: one forward to the site, or of the encoder, per request; contexts are not used."""
        encoder = _encoder(model, self.encoder, self.digest)
        opening = len(opening_tokens(model.tokenizer))
        features, sentences = [], []
        for request in requests:
            if encoder is None:
                features.append(prompt_feature(model, text_ids(model.tokenizer, request.question), self.layer, opening))
            else:
                features.append(encoder.embedded([request.question])[0])
            sentences.append(edit_sentence(model, request))
            model.progress.report("features", len(features), len(requests), "requests")
        before, padded = with_sentences(model.attachment, sentences, features[0].device)
        added = {"features": torch.stack(features), "sentences": padded}
        tensors = with_facts(before, added, requests)
        scalars: dict[str, float | str] = {"layer": self.layer, "threshold": self.threshold}
        if self.encoder is not None and self.digest is not None:
            scalars |= {"encoder": self.encoder, "encoder_digest": self.digest}
        model.attach(Attachment(KIND, tensors, scalars))
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None


def _encoder(model: EditableModel, folder: object, digest: object) -> ScopeEncoder | None:
    return None if folder is None else sentence_encoder(model, str(folder), str(digest))
