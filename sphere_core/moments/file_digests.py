"""Digests of the files that second moments are read from: how a trajectory names them. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint

__all__ = ["FileDigests", "layer_file_name"]


def layer_file_name(layer: int) -> str:
    """Return the name of a layer's file in a folder of second moments."""
    return f"layer{layer}.safetensors"


@dataclass(frozen=True)
class FileDigests:
    """The sha256 of one file of second moments, or that of each layer's file in a folder."""

    whole: str | None = None
    by_layer: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, layers: Sequence[int]) -> "FileDigests":
        """Read a moments file, or the files of these layers in a folder, as far as they are there."""
        if path.is_file():
            return cls(file_digest(path))
        files = {layer: path / layer_file_name(layer) for layer in layers}
        return cls(by_layer={layer: file_digest(file) for layer, file in files.items() if file.is_file()})

    def digest(self, layers: Sequence[int], *, where: str) -> str:
        """Return the digest of the file; of a folder, that of the files of these layers.

        Raises InputError, with the folder as `where`, if the file of one was not there.
        """
        if self.whole is not None:
            return self.whole
        for layer in layers:
            if layer not in self.by_layer:
                raise InputError(
                    f"the file {layer_file_name(layer)} is missing", where=where, remedy="name files by their layer"
                )
        return fingerprint({str(layer): self.by_layer[layer] for layer in layers})
