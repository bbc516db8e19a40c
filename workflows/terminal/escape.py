"""Texts of users and files, made safe for what they are written to: a terminal, Markdown, CSV."""

import re
import unicodedata

__all__ = ["markdown_text", "one_line", "words"]

# Escape sequences of terminals (ECMA-48): those with parameters, those with a string, and those of two characters.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x1b\\|\x07|$)|\x1b.|\x9b[0-?]*[ -/]*[@-~]", re.S)
# Control and format characters (the latter reverse or hide text), lone surrogates, line and paragraph separators.
_UNPRINTED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{character: f"\\{character}" for character in "\\|`*~"}}
# The middle of a link or an image, and an underscore that may begin or end emphasis.
_LINKS, _EMPHASIS = re.compile(r"\](?=[(\[:])"), re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def one_line(text: str) -> str:
    """Return a text as one printable line: escape sequences are left out, line breaks and controls become blanks."""
    if text.isprintable() and text.isascii():
        return text
    bare = _SEQUENCES.sub("", text)
    shown = "".join(" " if unicodedata.category(character) in _UNPRINTED else character for character in bare)
    return " ".join(shown.split()) if shown != text else text


def markdown_text(text: str) -> str:
    """Return a text as it reads inside a cell of a Markdown table: no markup of its own, no break of the row."""
    escaped = "".join(_ENTITIES.get(character, character) for character in one_line(text))
    return _EMPHASIS.sub(r"\_", _LINKS.sub(r"\]", escaped))


def words(text: str) -> list[str]:
    """Return the parts between which a text may be broken: after blanks, and after `+ / , : ; _ -` inside a word."""
    return re.findall(r"[^\s+/,:;_-]*[+/,:;_-]+\s*|[^\s+/,:;_-]+\s*|\s+", text)
