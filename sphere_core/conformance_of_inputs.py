"""What every reader of data and every family of models must do, checked on anybody's row.

from sphere_core.conformance_of_inputs import check_dataset
from quiz import DATASETS

check_dataset(name="quiz", row=DATASETS["quiz"], records=[{"question": ..., "subject": ..., "answer": ...}])
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sphere_core.conformance import NotConformingError, checked_plugins, few_requests
from sphere_core.datasets.schemas import Schema
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.prompts import pad_right, text_ids
from sphere_core.models import EditableModel, Family, load_model
from sphere_core.models.layer_calls import hidden_states
from sphere_core.models.sites import Site
from sphere_core.models.suffix import record_tail
from sphere_core.numerics.linalg import DenseUpdate

__all__ = ["check_dataset", "check_family"]

_TEXTS = 3
# Sums of padded rows are in another order.
_CLOSE = 1e-4


def check_dataset(*, name: str, row: Schema, records: Sequence[Mapping[str, Any]]) -> None:
    """Check a reader of data on some records of yours, as a JSON file would have them.

    Writes them to a temporary folder. Raises InputError for a row or a record that a sweep would refuse,
    NotConformingError for a broken rule: a record is not changed by reading, equal records give equal requests, and a
    record without its fields is refused by an InputError.
    """
    plugins, text = checked_plugins("dataset", name, row), json.dumps(list(records))
    with tempfile.TemporaryDirectory(prefix="sphere-check-") as folder:
        path = Path(folder) / "records.json"
        path.write_text(text, encoding="utf-8")
        spec = DatasetSpec(dataset=name, path=str(path))
        if read_dataset(spec, plugins).records != read_dataset(spec, plugins).records:
            raise _broken("equal records give equal requests", "a second call gives others")
    given = json.loads(text)
    for index, record in enumerate(given):
        row.read(record, index, "records.json")
    if given != json.loads(text):
        raise _broken("records are left as they were", "`read` changes one")
    try:
        row.read({}, 0, "records.json")
    except InputError:
        return
    except Exception as error:  # whatever the reader's own code raises
        raise _broken("a record without its fields is an InputError", f"{type(error).__name__}: {error}") from error
    raise _broken("a record without its fields is refused", "`read` makes a request of it")


def check_family(*, name: str, row: Family, folder: str | Path, layer: int = 0) -> None:
    """Check a family on a model of yours, in float32 on the CPU; give a small one, since it runs about ten forwards.

    `name` is the `model_type` of its config.json. Raises InputError for a row that a sweep would refuse,
    NotConformingError for a broken rule: a write at a site is the same product in the forward, and taken back without
    a trace; the keys of edits are that site's inputs; decoder, final norm and head give the network's own logits, for
    padded rows too; and the layers behind a changed hidden state give what a whole forward gives.
    """
    plugins = checked_plugins("family", name, row)
    model = load_model(str(folder), dtype="float32", device="cpu", plugins=plugins)
    if name not in model.family.model_types or not model.family.outside:
        remedy = "give a model whose config.json has this model_type, which no family of the release has"
        raise InputError(
            f"the model is of the family '{model.family.name}', not '{name}'", where=str(folder), remedy=remedy
        )
    (site,) = model.open_sites((layer,))
    rows = [text_ids(model.tokenizer, request.question) for request in few_requests(_TEXTS)]
    _require_own_logits(model, rows)
    _require_the_suffix(model, rows, layer)
    _require_keys(model, site)
    _require_the_write(model, site, rows[0])


def _logits(model: EditableModel, row: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.network(input_ids=torch.tensor([list(row)]), use_cache=False).logits[0]
    return found


def _require_own_logits(model: EditableModel, rows: Sequence[Sequence[int]]) -> None:
    ids, mask = pad_right(rows, fill=0, device=model.device)
    with torch.no_grad():
        hidden = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        together = model.normed_logits(hidden)
    for place, row in enumerate(rows):
        _require_close(together[place, : len(row)], _logits(model, row), "decoder and head give the network's logits")


def _require_the_suffix(model: EditableModel, rows: Sequence[Sequence[int]], layer: int) -> None:
    ids, mask = pad_right(rows, fill=0, device=model.device)
    starts = [len(row) // 2 for row in rows]
    tail = record_tail(model, layer, ids, mask, torch.tensor(starts))
    changed = tail.hidden.clone()
    changed[:, 0] *= 1.5
    with torch.no_grad():
        replayed = model.logits(tail.run(changed))
    for place, (row, start) in enumerate(zip(rows, starts, strict=True)):

        def scale(_: object, __: object, output: Any, start: int = start) -> Any:
            hidden = hidden_states(output).clone()
            hidden[0, start] *= 1.5
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = model.layers[layer].register_forward_hook(scale)
        whole = _logits(model, row)[start:]
        handle.remove()
        _require_close(replayed[place, : len(whole)], whole, "`layers` and `final_norm` give a whole forward's logits")


def _require_keys(model: EditableModel, site: Site) -> None:
    batch = locate(model, few_requests(1), (("{}",),))
    prompt, seen = batch.prompts[0], []
    module = model.network.get_submodule(site.module_path)
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, prompt.subject_last]))
    _logits(model, prompt.ids)
    handle.remove()
    if not seen or seen[0].shape[-1] != site.d_in:
        return  # Experts of a mixture, whose keys are gated: the write is checked.
    found = BatchWalk(model, batch, [site]).keys(site)[:, 0]
    _require_close(found, seen[0], "the key of an edit is the site's input at the subject's last token")


def _require_the_write(model: EditableModel, site: Site, row: Sequence[int]) -> None:
    before, noise = _logits(model, row), torch.Generator().manual_seed(0)
    update = 0.1 * model.weight(site).norm() * torch.randn(site.d_out, site.d_in, generator=noise) / site.d_in
    model.add(site, DenseUpdate(update.double()))
    if torch.equal(_logits(model, row), before):
        raise _broken("a write at a site changes the logits", f"none has, at {site.name}")
    model.restore_base()
    if not torch.equal(_logits(model, row), before):
        raise _broken("a write is taken back without a trace", "the logits differ")


def _require_close(found: torch.Tensor, expected: torch.Tensor, rule: str) -> None:
    error = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    if not error < _CLOSE:
        raise _broken(rule, f"a relative distance of {error:.1e}")


def _broken(rule: str, found: str) -> NotConformingError:
    return NotConformingError(f"rule: {rule}; found: {found}")
