"""SERAC (arXiv 2206.06520): a classifier sends prompts in the scope of an edit to a model that reads the edit.

For a prompt q with feature e(q), edits i with prompts x_i, targets y_i and features e(x_i),

    g(q) = max_i exp(-|e(q) - e(x_i)|^2);    logits = those of h on  x_i y_i. q  if g(q) > threshold,   else the model's

e is an encoder, h a causal model with the same tokens; both are brought as folders (`companions`), or trained by
`sphere serac train`. The edited model itself stays as it is. One decision a row, made where its prompt ends and kept
while the row is continued. Whole texts are left alone. Of a routed row the logits that follow the prompt are h's; the
prompt's own tokens are only read.

How other logits reach code that reads final states and maps them through the head: the decoder's hook puts a mark in
place of the state at each such position, the head's hook finds marks and gives h's logits there. Marks are exact in
half precision, however states are gathered or cut between the two. As in EasyEdit's port (14cea82) the scale of the
distance is 1, and the pair is read as a text; from it departs that each edit's feature is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.companions import companions
from sphere_core.editors.memory.facts import with_facts
from sphere_core.editors.memory.routing import NO_ENTRY, prompt_reading
from sphere_core.editors.memory.sentences import NO_TOKEN, edit_sentence, with_sentences
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import opening_tokens, pad_right
from sphere_core.locate.templates import Contexts
from sphere_core.models.attachments import Attachment, RowReading
from sphere_core.models.editable import BEHIND_THE_HEAD, EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "Serac", "SeracEditor", "scope"]

KIND = "serac"
_CHOSEN, _IDS = "chosen", "ids"
# A mark: the two first entries, the number of the reading, and the place of h's state in base 128.
_MARK, _BASE, _DIGITS = 32768.0, 128, 3
_MARKED = 3 + _DIGITS


def scope(query: torch.Tensor, edits: torch.Tensor) -> torch.Tensor:
    """Return exp(-|e(q) - e(x_i)|^2), `[m, n]`, of queries `[m, d]` and edits `[n, d]`; no matrix product rounds it."""
    return torch.exp(-(query[:, None] - edits[None]).square().sum(dim=-1))


class Serac:
    """Hooks on the decoder and the head of one model."""

    routes_by_prompt = True
    reads_prompts = True

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        text = {name: str(attachment.scalars.get(name)) for name in ("classifier", "counterfactual", "models")}
        self._model = model
        self._with = companions(model, text["classifier"], text["counterfactual"], text["models"])
        self._threshold = attachment.number("threshold")
        self._features = attachment.tensors["features"]
        self._sentences = [[t for t in row if t != NO_TOKEN] for row in attachment.tensors["sentences"].tolist()]
        self._opening = len(opening_tokens(model.tokenizer))
        self._known: dict[tuple[int, ...], int] = {}
        self._states, self._reads = torch.empty(0), 0
        self._head: nn.Module = model.network.get_submodule(model.family.head)
        config = model.network.config.get_text_config()
        if any(getattr(config, name, None) is not None for name in BEHIND_THE_HEAD):
            raise InputError("SERAC cannot give logits to a model that caps or scales its own", where=model.base_digest)

    def install(self) -> Sequence[RemovableHandle]:
        """Hook the decoder and the head."""
        decoder = self._model.network.get_submodule(self._model.family.decoder)
        return [
            decoder.register_forward_hook(self._mark, with_kwargs=True),
            self._head.register_forward_hook(self._answer),
        ]

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return the row itself."""
        return ids

    def entry_of(self, prompt: tuple[int, ...]) -> int:
        """Return the edit in whose scope a prompt lies, without the tokens that open every text; `NO_ENTRY`: none."""
        if prompt not in self._known:
            text = str(self._model.tokenizer.decode(list(prompt), skip_special_tokens=True))
            values = scope(self._with.encoder.embedded([text]), self._features.to(self._with.encoder.network.device))
            best, place = values[0].max(dim=0)
            self._known[prompt] = int(place) if float(best) > self._threshold else NO_ENTRY
        return self._known[prompt]

    def _mark(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        reading = prompt_reading(self._model, KIND)
        if reading.ends is None or reading.starts is None:
            return output
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        new = ids.shape[1]
        first = _CHOSEN not in reading.decided
        reading.decided[_IDS] = ids if first else torch.cat([reading.decided[_IDS], ids], dim=1)
        if first:
            reading.decided[_CHOSEN] = torch.tensor(self._choose(reading, ids), device=ids.device)
        chosen = reading.decided[_CHOSEN].tolist()
        if reading.routed is None:
            reading.routed = (reading.decided[_CHOSEN] != NO_ENTRY)[:, None].expand(ids.shape)
        if all(entry == NO_ENTRY for entry in chosen):
            return output
        hidden = output.last_hidden_state
        rows, places, self._states = self._read(reading, chosen, new)
        self._reads += 1
        marks = _marks(self._reads, len(rows), hidden.shape[-1]).to(hidden)
        changed = hidden.clone()
        changed[rows.to(hidden.device), places.to(hidden.device)] = marks
        output.last_hidden_state = changed
        return output

    def _choose(self, reading: RowReading, ids: torch.Tensor) -> list[int]:
        spans = zip(ids.tolist(), *_spans(reading), strict=True)
        return [self.entry_of(tuple(row[begin + self._opening : end])) for row, begin, end in spans]

    def _read(
        self, reading: RowReading, chosen: Sequence[int], new: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return rows and places among the `new` last tokens whose logits are h's, and h's final states there."""
        starts, ends = _spans(reading)
        ids, answering = reading.decided[_IDS].tolist(), self._with.counterfactual
        texts: list[list[int]] = []
        picked: list[tuple[int, int, int, int]] = []
        for row, entry in enumerate(chosen):
            if entry == NO_ENTRY:
                continue
            begin, sentence = starts[row] + self._opening, self._sentences[entry]
            text = [*ids[row][begin - self._opening : begin], *sentence, *ids[row][begin:]]
            for place in range(max(ends[row] - 1, len(ids[row]) - new), len(ids[row])):
                at = place - begin + self._opening + len(sentence)
                picked.append((row, place - (len(ids[row]) - new), len(texts), at))
            texts.append(text)
        rows, places, lines, ats = (torch.tensor(column) for column in zip(*picked, strict=True))
        read, mask = pad_right(texts, fill=0, device=answering.device)
        with torch.no_grad():
            states = answering.decoder(input_ids=read, attention_mask=mask, use_cache=False).last_hidden_state
        return rows, places, states[lines.to(states.device), ats.to(states.device)]

    def _answer(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        given = args[0]
        marked = (given[..., 0] == _MARK) & (given[..., 1] == -_MARK) & (given[..., _MARKED:] == 0).all(dim=-1)
        if not bool(marked.any()):
            return output
        mark = given[marked].double()
        if not bool((mark[:, 2] == self._reads % _BASE).all()):
            raise RuntimeError("states of an earlier reading were mapped through the head")
        digits = mark[:, 3:_MARKED] @ torch.tensor([_BASE**k for k in range(_DIGITS)], device=mark.device).double()
        with torch.no_grad():
            logits = self._with.counterfactual.normed_logits(self._states[digits.long().to(self._states.device)])
        changed = output.clone()
        changed[marked] = logits.to(output)
        return changed


def _spans(reading: RowReading) -> tuple[list[int], list[int]]:
    """Return where the prompts of rows begin and end."""
    if reading.starts is None or reading.ends is None:
        raise RuntimeError("whole texts have no prompts")
    return reading.starts.tolist(), reading.ends.tolist()


def _marks(number: int, count: int, width: int) -> torch.Tensor:
    """Return the marks of `count` places, `[count, width]`."""
    if count > _BASE**_DIGITS or width <= _MARKED:
        raise RuntimeError(f"{count} places cannot be marked in states of width {width}")
    marks = torch.zeros(count, width)
    marks[:, 0], marks[:, 1], marks[:, 2] = _MARK, -_MARK, number % _BASE
    places = torch.arange(count)
    for digit in range(_DIGITS):
        marks[:, 3 + digit] = (places // _BASE**digit % _BASE).float()
    return marks


@dataclass(frozen=True)
class SeracEditor:
    """Adds requests to the table: a feature by the encoder and a sentence each. No weight changes."""

    classifier: str
    counterfactual: str
    digest: str
    threshold: float

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Add a batch; contexts are not used."""
        encoder = companions(model, self.classifier, self.counterfactual, self.digest).encoder
        sentences, features = [], []
        for request in requests:
            features.append(encoder.embedded([request.question]))
            sentences.append(edit_sentence(model, request))
            model.progress.report("features", len(features), len(requests), "requests")
        before, padded = with_sentences(model.attachment, sentences, features[0].device)
        tensors = with_facts(before, {"features": torch.cat(features), "sentences": padded}, requests)
        scalars: dict[str, float | str] = {
            "classifier": self.classifier,
            "counterfactual": self.counterfactual,
            "models": self.digest,
            "threshold": self.threshold,
        }
        model.attach(Attachment(KIND, tensors, scalars))
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None
