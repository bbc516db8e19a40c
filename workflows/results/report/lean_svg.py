"""The SVG of a figure without what a page does not need: a browser opens a page of half the size sooner.

matplotlib writes six decimals, a group around every mark, and the list of its fonts at every word.
"""

import re
from xml.etree import ElementTree

__all__ = ["make_lean"]

_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONTS = re.compile(r"\s*font-family:[^;]*;?")
_UNTURNED = re.compile(r"rotate\(-?0( [^)]*)?\)")
_PLACES = ("d", "x", "y", "points")
_WORDS = ("text", "tspan", "style")


def make_lean(root: ElementTree.Element) -> None:
    """Shorten an SVG in place; what is seen moves by less than 0.005 of its units, a hundredth of a printed point.

    Numbers of places have two decimals, groups without an attribute give way to what they hold, the page's style sheet
    gives the fonts, and blanks between elements are left out.
    """
    _flattened(root)
    for element in root.iter():
        if element.tag.rpartition("}")[2] not in _WORDS:
            element.text = None
        element.tail = None
        for name in _PLACES:
            value = element.get(name)
            if value is not None:
                element.set(name, " ".join(_NUMBER.sub(_rounded, value).split()))
        style = element.get("style")
        if style is not None:
            element.set("style", _FONTS.sub("", style).replace("; ", ";").replace(": ", ":").strip())
        if _UNTURNED.fullmatch(element.get("transform", "")):
            del element.attrib["transform"]


def _flattened(parent: ElementTree.Element) -> None:
    """Put what a group without attributes holds in its place, from the innermost on."""
    for child in parent:
        _flattened(child)
    held = [inner for child in parent for inner in (child if _is_bare_group(child) else (child,))]
    if len(held) != len(parent) or any(_is_bare_group(child) for child in parent):
        parent[:] = held


def _is_bare_group(element: ElementTree.Element) -> bool:
    return element.tag.endswith("}g") and not element.attrib


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
