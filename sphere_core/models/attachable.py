"""The part of an editable model that holds what is installed beside its weights: one attachment, or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.models.attachments import MECHANISMS, Attachment, Mechanism, RowReading
from sphere_core.models.surroundings import Surroundings

__all__ = ["AttachableModel"]


class AttachableModel:
    """A network that one attachment at a time may act on, and nothing else that was not there when it was loaded."""

    def __init__(self, network: PreTrainedModel, base_digest: str, surroundings: Surroundings | None) -> None:
        self.network = network
        self.base_digest = base_digest
        self.surroundings = surroundings or Surroundings.of(network)
        self._attachment: Attachment | None = None
        self._mechanism: Mechanism | None = None
        self._handles: list[RemovableHandle] = []
        self._reading: RowReading | None = None
        # What mechanisms have loaded beside the network, by the digest of its content.
        self.companions: dict[str, object] = {}

    @property
    def attachment(self) -> Attachment | None:
        """What is installed beside the weights."""
        return self._attachment

    @property
    def routes_by_prompt(self) -> bool:
        """Whether rows of equal ids may be computed otherwise, depending on where their prompt ends."""
        return self._mechanism is not None and self._mechanism.routes_by_prompt

    @property
    def reads_prompts(self) -> bool:
        """Whether the attachment does nothing on whole texts, which have no prompt."""
        return self._mechanism is not None and self._mechanism.reads_prompts

    @property
    def row_reading(self) -> RowReading | None:
        """What is known of the rows that are being read; None outside `reading`."""
        return self._reading

    def attach(self, attachment: Attachment | None) -> None:
        """Install an attachment in place of the one that is there; None: remove it.

        Raises InputError for a kind or a shape that does not fit this model, which then has no attachment.
        """
        for handle in self._handles:
            handle.remove()
        self._attachment, self._mechanism, self._handles = None, None, []
        if attachment is not None:
            mechanism = self._mechanism_of(attachment)
            self._handles = list(mechanism.install())
            self._attachment, self._mechanism = attachment, mechanism

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Remove the attachment inside the block."""
        attachment = self._attachment
        self.attach(None)
        try:
            yield
        finally:
            self.attach(attachment)

    @contextmanager
    def reading(self, *, starts: torch.Tensor | None = None, ends: torch.Tensor | None = None) -> Iterator[RowReading]:
        """Say of the rows read inside the block that their prompts are the tokens `starts` to before `ends`, `[m]`.

        Without `ends` the rows are whole texts, and nothing is routed by prompt; without `starts` rows begin at token
        0. Later forwards inside the block continue the rows of the first with its cache. Blocks are not nested.
        """
        if self._reading is not None:
            raise RuntimeError("rows are being read already")
        begins = torch.zeros_like(ends) if starts is None and ends is not None else starts
        self._reading = RowReading(begins, ends)
        try:
            yield self._reading
        finally:
            self._reading = None

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return the row that is read in place of `ids`, whose prompt is `ids[:prompt_end]`.

        Only the prompt may differ, in length too; what follows it is the same. Without an attachment that rewrites,
        the row itself. Raises InputError for one that becomes longer than the model's positions.
        """
        if self._mechanism is None:
            return ids
        read = self._mechanism.rewritten(ids, prompt_end)
        room = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        if len(read) > len(ids) and room is not None and len(read) > room:
            raise InputError(
                f"with what is put before it a row has {len(read)} tokens; the model has {room} positions",
                where="attachment",
                remedy="leave out the long texts, or use a model with more positions",
            )
        return read

    def require_declared(self) -> None:
        """Raise InputError if anything but the attachment acts on the network that did not when it was loaded."""
        found = self.surroundings.intruder(self.network, {handle.id for handle in self._handles})
        if found is not None:
            raise InputError(
                f"the model carries something that its digest does not name: {found}",
                where=self.base_digest,
                remedy="remove it; what an editor installs is an Attachment, given to EditableModel.attach",
            )

    def _mechanism_of(self, attachment: Attachment) -> Mechanism:
        if attachment.kind not in MECHANISMS:
            raise InputError(
                f"an attachment of the unknown kind '{attachment.kind}'",
                remedy=f"this version knows {', '.join(MECHANISMS)}; read it with the version that wrote it",
            )
        build: Callable[[AttachableModel, Attachment], Mechanism] = load_object(MECHANISMS[attachment.kind])
        return build(self, attachment)
