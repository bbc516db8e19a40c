"""Files of tensors: the library's bytes, their digest, and triangles with the same bits at half the size."""

import hashlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from sphere_core.numerics import tensor_file
from sphere_core.numerics.tensor_file import LOWER, SYMMETRIC, read_tensors, write_tensors

DTYPES = sorted(tensor_file._DTYPES, key=str)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
NAMES = st.text('ab/é "\\.0', min_size=1, max_size=5).filter(lambda name: not name.endswith((LOWER, SYMMETRIC)))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensors") / "file"


@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(DTYPES), SHAPES, st.booleans()), max_size=5), st.integers(0, 9))
def test_bytes_and_digest_are_those_of_the_library(path: Path, asked: dict, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = {}
    for name, (dtype, shape, turned) in asked.items():
        tensor = (torch.randn(shape) * 9).to(dtype)
        tensors[name] = tensor.mT if turned and tensor.ndim > 1 else tensor
    expected = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    assert write_tensors(tensors, path) == hashlib.sha256(expected).hexdigest()
    assert path.read_bytes() == expected


def test_a_header_with_metadata_is_the_library_s(path: Path) -> None:
    tensors, metadata = {"layer3": torch.eye(3, dtype=torch.float64), "count": torch.ones(2)}, {"moments": '{"a": "é"}'}
    write_tensors(tensors, path, metadata=metadata)
    assert path.read_bytes() == save(tensors, metadata=metadata)


def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_tensors({"layer3": torch.zeros(1000, 1000)}, Path("/dev/full"), metadata={"moments": "{}"})


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("piece", [1, 100, 1 << 22])
def test_a_triangle_keeps_its_bits(path: Path, monkeypatch: pytest.MonkeyPatch, count: int, piece: int) -> None:
    monkeypatch.setattr(tensor_file, "_PIECE", piece)
    generator = torch.Generator().manual_seed(count)
    factor = torch.randn(count, count, generator=generator, dtype=torch.float64).tril()
    if count > 2:
        factor[2, 1], factor[2, 0] = math.nan, -0.0
    write_tensors({f"4/factor{LOWER}": factor, "columns": torch.ones(3)}, path)
    found = read_tensors(path.read_bytes())[f"4/factor{LOWER}"]
    assert torch.equal(found.view(torch.int64), factor.view(torch.int64))
    assert path.stat().st_size < 4 * count * (count + 1) + 300


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("block", [1, 3, 1024])
def test_a_symmetric_matrix_keeps_its_bits(path: Path, monkeypatch: pytest.MonkeyPatch, count: int, block: int) -> None:
    monkeypatch.setattr(tensor_file, "_MIRRORED", block)
    half = torch.randn(count, count, generator=torch.Generator().manual_seed(count), dtype=torch.float64).tril()
    matrix = half + half.tril(-1).T
    if count > 2:
        matrix[2, 1] = matrix[1, 2] = math.nan
    write_tensors({f"4/reduction{SYMMETRIC}": matrix}, path)
    found = read_tensors(path.read_bytes())[f"4/reduction{SYMMETRIC}"]
    assert torch.equal(found.view(torch.int64), matrix.view(torch.int64))
    assert path.stat().st_size < 4 * count * (count + 1) + 200


def test_what_a_triangle_cannot_be_is_refused_before_anything_is_written(path: Path) -> None:
    path.unlink(missing_ok=True)
    for wrong in (torch.ones(2, 3), torch.ones(4), torch.ones(2, 2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="lower"):
            write_tensors({f"x{LOWER}": wrong}, path)
    assert not path.exists()
