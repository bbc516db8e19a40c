"""Tensors written to a file in the safetensors format piece by piece: no copy of the whole, hashed while written.

A name that ends in `.lower` marks a square lower triangular matrix, one that ends in `.symmetric` a matrix that is
symmetric to the last bit. The file holds the triangle alone, row after row; reading gives the square matrix.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

__all__ = ["LOWER", "SYMMETRIC", "read_tensors", "write_tensors"]

LOWER, SYMMETRIC = ".lower", ".symmetric"
_TRIANGLES = (LOWER, SYMMETRIC)
# In the format's own order: the widest come first in a file.
_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
_WIDTH = {dtype: place for place, dtype in enumerate(_DTYPES)}
# The header is padded to a multiple of this, and a triangle is gathered from pieces of this many bytes.
_ALIGNMENT = 8
_PIECE = 1 << 22
# Rows that are mirrored at once.
_MIRRORED = 1024


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors of the host to a new file and return the file's sha256; `metadata` goes into its header.

    Without a triangle the bytes are those of `safetensors.torch.save`: widest dtype first, then by name; equal tensors
    give equal bytes. Raises OSError for a full disk, which the library's writer reports as an error of its own, and
    ValueError for a dtype that is not listed and for a triangle of a matrix that is not square.
    """
    for name, tensor in tensors.items():
        _require_writable(name, tensor)
    ordered = sorted(tensors.items(), key=lambda item: (-_WIDTH[item[1].dtype], item[0]))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(ordered, metadata):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def read_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a file's bytes, triangles as square matrices."""
    return {
        name: _square(tensor, mirrored=name.endswith(SYMMETRIC)) if name.endswith(_TRIANGLES) else tensor
        for name, tensor in load(data).items()
    }


def _require_writable(name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype not in _DTYPES:
        raise ValueError(f"{name} has the dtype {tensor.dtype}, which is not written")
    if name.endswith(_TRIANGLES) and (tensor.ndim != 2 or tensor.shape[0] != tensor.shape[1]):
        raise ValueError(f"{name} is not square: {tuple(tensor.shape)}")


def _pieces(
    ordered: list[tuple[str, torch.Tensor]], metadata: Mapping[str, str] | None
) -> Iterator[memoryview | bytes]:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in ordered:
        shape = list(tensor.shape)
        if name.endswith(_TRIANGLES):
            shape = [shape[0] * (shape[0] + 1) // 2]
        end = offset + math.prod(shape) * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield struct.pack("<Q", len(text)) + text
    for name, tensor in ordered:
        if name.endswith(_TRIANGLES):
            yield from map(_bytes_of, _rows_of_triangle(tensor.detach()))
        else:
            yield _bytes_of(tensor.detach())


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor; a contiguous one is not copied."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data


def _rows_of_triangle(matrix: torch.Tensor) -> Iterator[torch.Tensor]:
    count = matrix.shape[0]
    height = max(1, _PIECE // max(1, count * matrix.element_size()))
    for start in range(0, count, height):
        yield torch.cat([matrix[row, : row + 1] for row in range(start, min(start + height, count))])


def _square(packed: torch.Tensor, *, mirrored: bool) -> torch.Tensor:
    """Return the lower triangular or symmetric matrix whose triangle is given row after row."""
    count = (math.isqrt(8 * packed.numel() + 1) - 1) // 2
    matrix = packed.new_zeros(count, count)
    start = 0
    for row in range(count):
        matrix[row, : row + 1] = packed[start : start + row + 1]
        start += row + 1
    for begin in range(0, count if mirrored else 0, _MIRRORED):
        end = min(begin + _MIRRORED, count)
        corner = matrix[begin:end, begin:end]
        corner.copy_(torch.where(torch.ones_like(corner, dtype=torch.bool).tril(), corner, corner.T))
        matrix[:begin, begin:end] = matrix[begin:end, :begin].T
    return matrix
