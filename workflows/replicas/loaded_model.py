"""The one model of a replica: loaded once, lent unedited, checked on return."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.work_progress import WorkProgress
from sphere_core.hyperparameters.places import Place
from sphere_core.models import EditableModel, load_model
from sphere_core.models.devices import SPLIT, pick_device
from sphere_core.models.family import Family
from sphere_core.numerics.placement import same_bits

__all__ = ["ReplicaModel"]


class Named(Protocol):
    """The identity of a model: its source, the digest of its content, the network's dtype."""

    @property
    def model(self) -> str: ...

    @property
    def model_digest(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def revision(self) -> str | None: ...

    @property
    def remote_code(self) -> bool: ...

    @property
    def family(self) -> Family | None: ...


class ReplicaModel:
    """Loads a model if a task requires another one than the last, and lends it to one task at a time.

    Each loan is a new editable model with exactly the layers of the task, so that nothing of an earlier task, not even
    which sites it had opened, can affect the next. The weights of the sites are compared before and after
    with those of the first loan, bit for bit and on their own device; a hook or module that was not there when the
    model was loaded is refused.
    """

    def __init__(self, device: torch.device | str, progress: WorkProgress | None = None) -> None:
        """`progress` is how far the work on a lent model is, whichever it is."""
        self._device = device
        self._progress = WorkProgress() if progress is None else progress
        self._key: tuple[str, str] | None = None
        self._loaded: EditableModel | None = None
        self._pristine: dict[str, torch.Tensor] = {}

    @property
    def device(self) -> torch.device:
        """The device of models; the first accelerator for one that is spread over several."""
        return torch.device(pick_device("auto") if self._device == SPLIT else self._device)

    @contextmanager
    def lent(self, spec: Named, places: Sequence[Place]) -> Iterator[EditableModel]:
        """Lend the unedited model of a trajectory with the sites at these places open.

        Raises InputError if the model's files are not the planned ones or the model still carries something, and
        RuntimeError if it does not return to its unedited weights. After any error the next loan loads the model again.
        """
        base = self._load(spec)
        model = EditableModel(
            base.network,
            base.tokenizer,
            base.family,
            base_digest=base.base_digest,
            originals=self._pristine,
            surroundings=base.surroundings,
            progress=self._progress,
        )
        model.open_sites(places)
        self._pristine |= model.unedited_parameters()
        whole = False
        try:
            self._require_pristine(model)
            yield model
            model.restore_base()
            self._require_pristine(model)
            whole = True
        finally:
            if not whole:
                self.forget()

    def forget(self) -> None:
        """Release the model; the next loan loads one again."""
        self._loaded, self._key = None, None
        self._pristine.clear()

    def _load(self, spec: Named) -> EditableModel:
        key = (spec.model_digest, spec.dtype)
        if self._loaded is None or self._key != key:
            self.forget()
            loaded = load_model(
                spec.model,
                dtype=spec.dtype,
                device=self._device,
                revision=spec.revision,
                remote_code=spec.remote_code,
                family=spec.family,
            )
            if loaded.base_digest != spec.model_digest:
                raise InputError(
                    "the model's files are not those the sweep was planned with",
                    where=spec.model,
                    remedy="restore them, or plan again: another model is another trajectory",
                )
            self._loaded, self._key = loaded, key
        return self._loaded

    def _require_pristine(self, model: EditableModel) -> None:
        model.require_declared()
        for name in model.masters():
            if not same_bits(model.network.get_parameter(name), self._pristine[name]):
                raise RuntimeError(f"{name} is not the unedited weight it was when the model was loaded")
