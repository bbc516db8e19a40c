"""Ids of repositories on the Hugging Face hub: `owner/name`, or `name` alone for some models."""

import re

__all__ = ["is_hub_id"]

# A relative path such as ./corpus or ../model is none: neither part begins with a dot.
_PART = r"[A-Za-z0-9_][\w.-]*"
_WITH_OWNER = re.compile(f"{_PART}/{_PART}", re.ASCII)
_NAME = re.compile(_PART, re.ASCII)


def is_hub_id(text: str, *, needs_owner: bool = True) -> bool:
    """Return whether a text has the form of a hub id; asks no hub."""
    return bool(_WITH_OWNER.fullmatch(text) or (not needs_owner and _NAME.fullmatch(text)))
