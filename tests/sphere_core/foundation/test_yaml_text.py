"""Parsing with libyaml gives what the plain loader gives, and as little."""

from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from sphere_core.foundation.yaml_text import parse_yaml

# Task files of the harness name functions, which the harness alone reads.
SHIPPED = [
    path
    for room in ("sphere_core", "evaluators", "examples")
    for path in sorted((REPOSITORY / room).rglob("*.yaml"))
    if "!function" not in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_shipped_file_reads_as_with_the_plain_loader(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["", "a: 1e-3", "a: .inf", "a: 0o17", "a: yes", "? [1, 2]\n: 3", "a: &x [1]\nb: *x"])
def test_values_at_the_borders_of_the_language(text: str) -> None:
    def read(parse):
        try:
            return parse(text)
        except yaml.YAMLError as error:
            return type(error)

    assert read(parse_yaml) == read(yaml.safe_load)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\n b: 2", "--- 1\n--- 2", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_plain_document_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
