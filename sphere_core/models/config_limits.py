"""Sizes that a model's config may give: a slip in one would take hours or all memory before a library notices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError

__all__ = ["check_config"]

# Far above what any published model has.
_MOST = {
    "num_hidden_layers": 1024,
    "n_layer": 1024,
    "hidden_size": 1 << 20,
    "n_embd": 1 << 20,
    "intermediate_size": 1 << 22,
    "n_inner": 1 << 22,
    "num_attention_heads": 1 << 16,
    "n_head": 1 << 16,
    "num_key_value_heads": 1 << 16,
    "head_dim": 1 << 16,
    "vocab_size": 1 << 26,
}


def check_config(config: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError for a size of a config that no model can have, and for an attention fetched from the hub."""
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        for key, most in _MOST.items():
            given = part.get(key)
            if isinstance(given, int) and not 1 <= given <= most:
                raise InputError(
                    f"{key} is {given if abs(given) < 10**20 else 'a number of many digits'}",
                    where=f"{folder}, config.json, key {key}",
                    remedy=f"fetch the model again: a model's {key} lies between 1 and {most}",
                )
        attention = part.get("_attn_implementation")
        if isinstance(attention, str) and "/" in attention:
            raise InputError(
                f"the config requires the attention kernel '{attention}' of the hub, which is code that is not run",
                where=f"{folder}, config.json, key _attn_implementation",
                remedy="remove the key: the family's file says which implementation is used",
            )
