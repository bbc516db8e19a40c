"""Hidden units made elsewhere: every edit brings units of its own to the MLP of one layer, from a file.

For an input x `[d]` of the MLP, and units i with key k_i, value v_i, bias b_i and, if the file has them, gate g_i

    y = MLP(x) + sum_i a_i v_i,     a_i = f(k_i x + b_i),   with gates   a_i = f(g_i x + b_i) (k_i x)

f is the file's activation. That is one more row of the MLP's first matrices and one more column of its last. With the
scope `tokens` every unit reads every token; T-Patcher's units (arXiv 2301.09785) are of this form. With the scope
`prompts` a unit reads the rows whose prompt is its own, at every token: the form of MeG (arXiv 2512.14395), whose
generator writes one unit for each query that its gate takes for an edited one, here with both already computed. Prompts
are compared as the tokenizer gives them back, without blanks around them. Who made the units, and how, is not known
here: the numbers are those of the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.activations import ACT2FN

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import fact_names, rows_left
from sphere_core.editors.memory.neuron_file import NeuronFile, lacking_units, missing_cases
from sphere_core.editors.memory.routing import prompt_reading
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import opening_tokens
from sphere_core.locate.templates import Contexts
from sphere_core.models.attachments import Attachment, stable_number
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "Neurons", "NeuronsEditor"]

KIND = "neurons"
_CHOSEN, _PROMPTS = "chosen", "prompts"
# Units that are computed at once: bounds the table of activations.
_AT_ONCE = 8192


class Neurons:
    """The units at work: a hook on the MLP, and with the scope `prompts` one on the decoder. Sums are fp32."""

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        self._model = model
        self._mlp = model.network.get_submodule(_mlp_path(model, int(attachment.number("layer"))))
        self._function: nn.Module = ACT2FN[str(attachment.scalars.get("activation"))]
        device = next(self._mlp.parameters()).device
        # A value of zero is how a file says that a unit could not be made: it acts on nothing.
        live = attachment.tensors["values"].any(dim=1)
        held = {name: tensor[live].to(device) for name, tensor in attachment.tensors.items()}
        self._keys, self._values = held["keys"], held["values"]
        self._gates, self._biases = held.get("gates"), held.get("biases")
        self._prompts: list[int] | None = held[_PROMPTS].tolist() if _PROMPTS in held else None
        self._opening = len(opening_tokens(model.tokenizer))

    @property
    def routes_by_prompt(self) -> bool:
        """Whether units are for prompts."""
        return self._prompts is not None

    @property
    def reads_prompts(self) -> bool:
        """Whether units are for prompts."""
        return self._prompts is not None

    def install(self) -> Sequence[RemovableHandle]:
        """Hook the MLP, and the decoder where prompts have to be read."""
        handles = [self._mlp.register_forward_hook(self._add, with_kwargs=True)]
        if self._prompts is not None:
            decoder = self._model.network.get_submodule(self._model.family.decoder)
            handles.append(decoder.register_forward_pre_hook(self._choose, with_kwargs=True))
        return handles

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return the row itself."""
        return ids

    def _choose(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Decide which units read each row, `[m, n]`, before the first layer does."""
        reading = prompt_reading(self._model, KIND)
        if reading.ends is None or reading.starts is None or _CHOSEN in reading.decided:
            return
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        spans = zip(ids.tolist(), reading.starts.tolist(), reading.ends.tolist(), strict=True)
        asked = [_name(self._model, row[begin + self._opening : end]) for row, begin, end in spans]
        own = torch.tensor(self._prompts, dtype=torch.long)
        reading.decided[_CHOSEN] = (torch.tensor(asked)[:, None] == own[None]).to(self._keys.device)

    def _add(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> Any:
        inputs = args[0] if args else kwargs["hidden_states"]
        reading = self._model.row_reading
        if self._prompts is None:
            rows, readers, units = torch.arange(len(inputs), device=inputs.device), None, None
        else:
            chosen = None if reading is None else reading.decided.get(_CHOSEN)
            if chosen is None:
                return output
            rows = chosen.any(dim=1).nonzero()[:, 0]
            units = chosen.any(dim=0).nonzero()[:, 0]
            readers = chosen[rows][:, units]
        added, acts = self._sum(inputs[rows].float(), units, readers)
        acted = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        acted[rows] = acts
        if reading is not None and reading.routed is None:
            reading.routed = acted
        if not bool(acted.any()):
            return output
        changed = output.clone()
        changed[acted] = (output[acted].float() + added[acts]).to(output.dtype)
        return changed

    def _sum(
        self, inputs: torch.Tensor, units: torch.Tensor | None, readers: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the units add `[r, T, d]` to rows with inputs `[r, T, d]`, and where any of them is not zero.

        `units` are the places of those that matter (None: all), `readers` `[r, units]` says which read which row.
        """
        places = torch.arange(len(self._keys), device=inputs.device) if units is None else units
        total, acts = torch.zeros_like(inputs), torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        for start in range(0, len(places), _AT_ONCE):
            part = places[start : start + _AT_ONCE]
            active = self._activations(inputs, part)
            if readers is not None:
                active = active * readers[:, None, start : start + _AT_ONCE]
            total += active @ self._values[part]
            acts |= (active != 0).any(dim=-1)
        return total, acts

    def _activations(self, inputs: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        read = inputs @ self._keys[part].T
        argument = read if self._gates is None else inputs @ self._gates[part].T
        if self._biases is not None:
            argument = argument + self._biases[part]
        active: torch.Tensor = self._function(argument)
        return active if self._gates is None else active * read


class NeuronsEditor:
    """Brings each request's units from the file; one that supersedes another, or asks the same, takes its place."""

    def __init__(self, file: NeuronFile, place: str) -> None:
        self._file, self._place = file, place
        self._units: dict[str, list[int]] = {}
        for unit, case in enumerate(file.header.cases):
            self._units.setdefault(case, []).append(unit)

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Add a batch; contexts are not used. Raises InputError for a request without a unit."""
        lacking = missing_cases(self._file.header, [request.case_id for request in requests])
        if lacking:
            raise lacking_units(lacking, self._place)
        mlp = model.network.get_submodule(_mlp_path(model, self._file.header.layer))
        device = next(mlp.parameters()).device
        before = model.attachment
        table: Mapping[str, torch.Tensor] = {} if before is None else before.tensors
        with model.clock.stage("memory"):
            for done, request in enumerate(requests, 1):
                own = {name: tensor.to(device) for name, tensor in self._of(model, request).items()}
                left = rows_left(table, [request]) if table else {}
                table = {name: torch.cat([left[name], new]) if left else new for name, new in own.items()}
                model.progress.report("memory", done, len(requests), "requests")
        header = self._file.header
        model.attach(Attachment(KIND, table, {"layer": header.layer, "activation": header.activation}))
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None

    def _of(self, model: EditableModel, request: EditRequest) -> dict[str, torch.Tensor]:
        """Return the rows of the table that are a request's units."""
        units, header = self._units[request.case_id], self._file.header
        rows = {name: torch.from_numpy(array[units]) for name, array in self._file.arrays.items()}
        rows |= {name: tensor.repeat(len(units)) for name, tensor in fact_names([request], torch.device("cpu")).items()}
        if header.prompts is not None:
            texts = [model.tokenizer(header.prompts[unit], add_special_tokens=False).input_ids for unit in units]
            rows[_PROMPTS] = torch.tensor([_name(model, ids) for ids in texts])
        return rows


def _name(model: EditableModel, ids: Sequence[int]) -> int:
    """Return the number of a prompt, from its tokens without those that open every text."""
    text = str(model.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return stable_number(text.strip())


def _mlp_path(model: EditableModel, layer: int) -> str:
    """Return the path of a layer's MLP; raises InputError if there is none, or it is not a module of its own."""
    family = model.family
    if family.mixture or "." not in family.down_projection:
        raise InputError(
            f"a layer of the family '{family.name}' has no single MLP that a unit could be added to",
            where=model.base_digest,
            remedy="units of a file are for dense models whose MLP is a module",
        )
    count = len(list(model.network.get_submodule(family.layers).children()))
    if layer >= count:
        raise InputError(
            f"the units are for layer {layer}, the model has the layers 0 to {count - 1}", where=model.base_digest
        )
    return family.site_path(layer).rpartition(".")[0]
