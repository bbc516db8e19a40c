"""Parsing YAML with libyaml where PyYAML was built with it, which is about eight times as fast."""

from typing import Any

import yaml

__all__ = ["YAML_LOADER", "parse_yaml"]

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """Return the one document of a YAML text, as `yaml.safe_load` does; raises yaml.YAMLError for bad syntax.

    For files of the package; `yaml_files` reads those of a user.
    """
    loader = YAML_LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
