"""Numbers that YAML 1.1 reads otherwise than they look are refused; texts and plain numbers are read as they look."""

from pathlib import Path

import pytest

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import read_json
from sphere_core.foundation.yaml_files import parse_user_yaml


@pytest.mark.parametrize(
    ("text", "key", "base"),
    [
        ("seeds: [0, 010]", "seeds[1]", 8),
        ("layers: [4:8]", "layers[0]", 60),
        ("a: {v_lr: 1:30}", "a.v_lr", 60),
        ("checkpoint_every: -1:00", "checkpoint_every", 60),
        ("kl: 1:30.5", "kl", 60),
        ("edits: 0_17", "edits", 8),
    ],
)
def test_a_number_in_base_60_or_8_is_refused_at_its_key(text: str, key: str, base: int) -> None:
    with pytest.raises(InputError, match=f"in base {base}") as caught:
        parse_user_yaml(text, where="x.yaml")
    assert f"line 1, key {key}" in str(caught.value)


def test_what_reads_as_it_looks_is_let_through() -> None:
    found = parse_user_yaml("[0, 0.5, -3, 1_000, 00.5, '010', '1:30', 12:xy, 0x10]", where="x.yaml")
    assert found.data == [0, 0.5, -3, 1000, 0.5, "010", "1:30", "12:xy", 16]


@pytest.mark.parametrize(("text", "comma"), [('{"a": [1,]}', True), ('{"a": 1}}', False), ("[1, \n]", True)])
def test_a_comma_is_named_only_where_there_is_one(tmp_path: Path, text: str, comma: bool) -> None:
    file = tmp_path / "x.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_json(file, what="file")
    assert ("take the comma before the bracket out" in str(caught.value)) == comma
