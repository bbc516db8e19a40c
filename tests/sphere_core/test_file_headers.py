"""Headers of files of second moments and of deltas: files of an earlier commit are read, and written again alike."""

import json
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY
from safetensors.torch import save_file

from sphere_core.export import encode_delta, read_delta
from sphere_core.foundation.errors import InputError
from sphere_core.moments.files import read_moments, write_moments
from sphere_core.moments.headers import MomentsHeader, read_header

RECORDS = REPOSITORY / "tests" / "data" / "records"
MOMENTS = RECORDS / "moments.safetensors"


def test_second_moments_are_read_and_written_again_byte_for_byte(tmp_path: Path) -> None:
    moments, header = read_moments(MOMENTS), read_header(MOMENTS)
    assert (moments.layers, moments.count, set(moments.gradients)) == ([9, 10], 40, {9})
    assert {layer: space.complement for layer, space in moments.null_spaces.items()} == {9: False, 10: True}
    assert header.provenance == moments.provenance
    assert header.provenance["amount"] == {"tokens": 40}
    assert set(header.digests) == set(header.shapes) == set(moments.tensors())
    assert header.shapes["gradient9"] == [3, 3]
    write_moments(moments, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == MOMENTS.read_bytes()


@pytest.mark.parametrize("name", ["delta", "delta_with_parts"])
def test_a_delta_is_read_and_written_again_byte_for_byte(name: str) -> None:
    path = RECORDS / f"{name}.safetensors"
    delta = read_delta(path)
    assert (delta.model, delta.dtype, delta.card) == ("factworld", "bfloat16", "# A model\n")
    assert delta.revision == ("main" if name == "delta_with_parts" else None)
    assert (delta.attachment is not None) == bool(delta.tuned) == (name == "delta_with_parts")
    if delta.attachment is not None:
        assert (delta.attachment.kind, delta.attachment.scalars) == ("grace", {"radius": 0.5, "facts": 1})
    assert encode_delta(delta) == path.read_bytes()


def test_a_header_without_null_spaces_does_not_speak_of_them() -> None:
    stored = MomentsHeader(count=7, provenance={"model": "m"}, digests={"layer0": "ab"}).encode()
    assert stored == {"moments": '{"count": 7, "digests": {"layer0": "ab"}, "provenance": {"model": "m"}}'}
    assert MomentsHeader.decode(stored, {}).count == 7
    assert MomentsHeader.decode({}, {}) == MomentsHeader()
    assert MomentsHeader.decode({"moments": '{"of_a_later_release": 1}'}, {}) == MomentsHeader()


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"count": true}', "count is True"),
        ('{"provenance": {"model_digest": 7}}', "provenance"),
        ('{"digests": 3}', "digests"),
        ('{"complement": {"0": "yes"}}', "complement"),
    ],
)
def test_a_faulty_header_is_named(tmp_path: Path, header: str, fault: str) -> None:
    path = tmp_path / "moments.safetensors"
    save_file({"nullspace0": torch.ones(1, 2)}, path, metadata={"moments": header})
    with pytest.raises(InputError, match=fault):
        read_header(path)


@pytest.mark.parametrize("change", [{"format": 2}, {"model": None, "card": ...}, {"attached": {"kind": "grace"}}])
def test_another_delta_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    record = {"format": 1, "model": "m", "revision": None, "base_digest": "a", "dtype": "float32"}
    record |= {"weights_digest": "b", "tensors_digest": "c", "card": ""} | change
    stored = json.dumps({name: value for name, value in record.items() if value is not ...})
    save_file({"w": torch.ones(1)}, tmp_path / "delta.safetensors", metadata={"delta": stored})
    with pytest.raises(InputError, match="format 2" if "format" in change else "not a delta"):
        read_delta(tmp_path / "delta.safetensors")
