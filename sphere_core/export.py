"""Edited models to take away: a plain Hugging Face folder, or the edited weights alone, which make one from the base
again, bit for bit.

No plain folder represents an attachment. The folder then holds the network one level down, so that it is not loaded by
mistake without what was edited, and the delta with the attachment beside it; `load_exported` puts the two together.
"""

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sphere_core.foundation.errors import InputError
from sphere_core.models import EditableModel, load_model, model_digest, resolve_model
from sphere_core.models.attachments import Attachment
from sphere_core.models.family import Family
from sphere_core.models.loading import DTYPES, family_of
from sphere_core.numerics.tensor_digest import tensors_digest

__all__ = [
    "DELTA_FILE",
    "NETWORK",
    "Delta",
    "Merge",
    "edited_model",
    "encode_delta",
    "load_exported",
    "merges",
    "read_delta",
    "save_model",
]

DELTA_FILE = "delta.safetensors"
CARD_FILE = "README.md"
# The folder of the network inside an export with an attachment.
NETWORK = "network"
_ATTACHED, _TUNED = "attached/", "tuned/"
_FORMAT = 1
_METADATA = "delta"


@dataclass(frozen=True)
class Delta:
    """The edited weights of one checkpoint and what they belong to.

    `weights` are the weights W themselves, fp32, by parameter name and in stored orientation, not W - W_0: that
    difference is rounded, and added to W_0 again it would not give W. `base_digest` is the digest of the unedited
    model's files, `weights_digest` that of what the network holds once they are installed in `dtype`; `card` is the
    model card. `attachment` is what the editor has installed beside the weights, `tuned` are the parameters that are no
    sites and that a fine-tuning has changed.
    """

    weights: Mapping[str, torch.Tensor]
    model: str
    revision: str | None
    base_digest: str
    dtype: str
    weights_digest: str
    card: str
    attachment: Attachment | None = None
    tuned: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Merge:
    """What storing one site in some dtype loses.

    `largest` is max |W - round(W)|; `share` is |W - round(W)|_F / |W - W_0|_F, the part of the edit that is lost
    (inf where an entry does not fit the dtype); `change` is |W - W_0|_F / |W_0|_F.
    """

    site: str
    dtype: str
    change: float
    largest: float
    share: float


def edited_model(
    source: str,
    weights: Mapping[str, torch.Tensor],
    attachment: Attachment | None = None,
    tuned: Mapping[str, torch.Tensor] | None = None,
    *,
    dtype: str,
    base_digest: str,
    revision: str | None = None,
    remote_code: bool = False,
    family: Family | None = None,
) -> EditableModel:
    """Load a base model on the CPU and install edited weights (fp32, by parameter name, stored orientation), an
    attachment and tuned parameters.

    Raises InputError if the model is not the one that was edited (another digest), or has no such weight.
    """
    folder = resolve_model(source, revision=revision, remote_code=remote_code)
    family = family or family_of(folder, remote_code=remote_code)
    found = family.digest_of(model_digest(folder, remote_code=remote_code))
    if found != base_digest:
        raise InputError(
            f"another base model: the edit was made on {base_digest}, this is {found}",
            where=str(source),
            remedy="give the model, at the revision, that was edited; --model and --revision choose one",
        )
    model = load_model(str(folder), dtype=dtype, device="cpu", digest=found, remote_code=remote_code, family=family)
    try:
        model.load_weights(weights, attachment, tuned)
    except KeyError as error:
        raise InputError(f"the model has no weight that is called {error}", where=str(source)) from error
    return model


def merges(model: EditableModel) -> list[Merge]:
    """Return what storing each edited site in float32, bfloat16 and float16 loses; sums are float64."""
    found = []
    for site in model.sites:
        weight, base = model.weight(site), model.base_weight(site)
        moved = torch.linalg.vector_norm((weight - base).double())
        change = float(moved / torch.linalg.vector_norm(base.double()))
        for name, dtype in DTYPES.items():
            lost = (weight - weight.to(dtype).float()).double()
            norm = float(torch.linalg.vector_norm(lost))
            share = norm / float(moved) if float(moved) else 0.0
            found.append(Merge(site.name, name, change, float(lost.abs().max()), share))
    return found


@dataclass(frozen=True)
class _Attached:
    """The part of an attachment that the header holds."""

    kind: str
    scalars: Mapping[str, float | int | str | bool]


@dataclass(frozen=True)
class _Header:
    """The header of a delta's file; keys are field names, and a part that the delta lacks is not stored."""

    model: str
    revision: str | None
    base_digest: str
    dtype: str
    weights_digest: str
    card: str
    tensors_digest: str
    tuned_digest: str | None = None
    attached: _Attached | None = None
    attached_digest: str | None = None
    format: int = _FORMAT

    @classmethod
    def of(cls, delta: Delta) -> "_Header":
        beside = delta.attachment
        return cls(
            **{name: getattr(delta, name) for name in _SHARED},
            tensors_digest=tensors_digest(delta.weights),
            tuned_digest=tensors_digest(delta.tuned) if delta.tuned else None,
            attached=None if beside is None else _Attached(beside.kind, dict(beside.scalars)),
            attached_digest=None if beside is None else beside.digest,
        )

    def encode(self) -> dict[str, str]:
        # One key only: safetensors keeps several in no fixed order, and equal deltas must be equal bytes.
        record = {name: value for name, value in asdict(self).items() if value is not None or name in _SHARED}
        return {_METADATA: json.dumps(record, sort_keys=True)}

    @classmethod
    def decode(cls, metadata: Mapping[str, str]) -> "_Header":
        """Read the header; raises KeyError, TypeError or ValueError if it is not a delta's."""
        record = json.loads(metadata[_METADATA])
        found = cls(**{one.name: record[one.name] for one in fields(cls) if one.name in record})
        return replace(found, attached=_Attached(**record["attached"])) if "attached" in record else found


# What a delta and its header have in common: always stored.
_SHARED = tuple(one.name for one in fields(Delta) if one.name in {key.name for key in fields(_Header)})


def encode_delta(delta: Delta) -> bytes:
    """Return a delta as safetensors bytes, what it belongs to in the header."""
    tensors = {name: weight.contiguous() for name, weight in sorted(delta.weights.items())}
    tensors |= {_TUNED + name: tensor.contiguous() for name, tensor in sorted(delta.tuned.items())}
    if delta.attachment is not None:
        tensors |= {_ATTACHED + name: tensor.contiguous() for name, tensor in sorted(delta.attachment.tensors.items())}
    return save(tensors, metadata=_Header.of(delta).encode())


def read_delta(path: Path) -> Delta:
    """Read a delta and check it against its own digest; raises InputError for another file or a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            header = _Header.decode(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"not a delta ({type(error).__name__})",
            where=str(path),
            remedy=f"give the {DELTA_FILE} that 'sphere export --delta-only' has written",
        ) from error
    if header.format != _FORMAT:
        raise InputError(f"a delta of format {header.format}; this version reads {_FORMAT}", where=str(path))
    attachment = None
    if header.attached is not None:
        beside = {name: weights.pop(name) for name in [*weights] if name.startswith(_ATTACHED)}
        tensors = {name.removeprefix(_ATTACHED): tensor for name, tensor in beside.items()}
        attachment = Attachment(header.attached.kind, tensors, header.attached.scalars)
    under = {name: weights.pop(name) for name in [*weights] if name.startswith(_TUNED)}
    tuned = {name.removeprefix(_TUNED): tensor for name, tensor in under.items()}
    whole = attachment is None or attachment.digest == header.attached_digest
    whole = whole and (tensors_digest(tuned) if tuned else None) == header.tuned_digest
    if not whole or tensors_digest(weights) != header.tensors_digest:
        raise InputError("the weights do not match the digest in the header", where=str(path), remedy="copy it again")
    return Delta(weights, **{name: getattr(header, name) for name in _SHARED}, attachment=attachment, tuned=tuned)


def save_model(model: EditableModel, delta: Delta, folder: Path) -> None:
    """Write config, weights in the network's dtype, tokenizer and model card as a folder that appears whole.

    With an attachment all but the card lies in `network`, beside the delta. Raises InputError if the network does not
    hold the delta's weights, and if the folder exists already.
    """
    if model.weights_digest() != delta.weights_digest:
        raise InputError(
            f"the edited weights came out as {model.weights_digest()}, not as {delta.weights_digest}",
            where=delta.model,
            remedy="the delta was written by a version that rounds otherwise; export the checkpoint again",
        )
    if folder.exists():
        raise InputError("the folder exists already", where=str(folder), remedy="give another --to, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        plain = scratch if delta.attachment is None else scratch / NETWORK
        model.network.save_pretrained(plain)
        model.tokenizer.save_pretrained(plain)
        if delta.attachment is not None:
            (scratch / DELTA_FILE).write_bytes(encode_delta(delta))
        (scratch / CARD_FILE).write_text(delta.card, encoding="utf-8")
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load_exported(folder: Path, *, device: str = "cpu") -> EditableModel:
    """Load a folder with an attachment that `save_model` wrote; its `network` is a Hugging Face model that answers with
    all edits.

    Raises InputError for another folder, and if what is loaded is not what was exported.
    """
    delta = read_delta(folder / DELTA_FILE)
    if delta.attachment is None:
        raise InputError("the delta has no attachment", where=str(folder), remedy="load it with transformers")
    model = load_model(str(folder / NETWORK), dtype=delta.dtype, device=device, digest=delta.base_digest)
    # The network was saved with the edited weights in it; what they were before is not in the folder.
    model.attach(delta.attachment)
    return model
