"""The SVG of a figure as a part of a page: colours as variables of its style sheet, values where a pointer finds them.

The tags of `figures.panels.tag` become attributes: `data-method` on what belongs to a method, `data-tip` on marks.
"""

import json
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from workflows.results.report.lean_svg import make_lean

__all__ = ["PAGE_COLOURS", "inline_svg"]

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# Colours of figures and the variables of the page's style sheet that replace them.
PAGE_COLOURS = {
    "#010203": "--ink",
    "#e6e6e6": "--grid",
    "#6e6e6f": "--grey1",
    "#9a9a9b": "--grey2",
    "#0072b2": "--s0",
    "#d55e00": "--s1",
    "#009e73": "--s2",
    "#cc79a7": "--s3",
    "#e69f00": "--s4",
    "#56b4e9": "--s5",
    "#000000": "--s6",
    "#8c6d31": "--s7",
}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(data: bytes, *, prefix: str, label: str, colours: Mapping[str, str] = PAGE_COLOURS) -> str:
    """Return an SVG as an element of a page, its ids made unique by a prefix; `label` is read to those who do not see.

    Raises ValueError if a tag names other values than there are marks.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    root = ElementTree.fromstring(data)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for group in list(root.iter(f"{{{_SVG}}}g")):
        _tagged(group)
    used = _references(root)
    for element in root.iter():
        _renamed(element, used, prefix)
        style = element.get("style")
        if style is not None:
            element.set("style", _themed(style, colours))
    make_lean(root)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def _tagged(group: ElementTree.Element) -> None:
    """Turn the tag of a group into attributes, of its marks if it has several values."""
    if not (group.get("id") or "").startswith("{"):
        return
    tag = json.loads(group.attrib.pop("id"))
    group.set("data-method", tag["method"])
    texts = tag["texts"]
    if not texts:
        return
    marks = list(group.iter(f"{{{_SVG}}}use"))
    if not marks and len(texts) == 1:
        group.set("data-tip", texts[0])
        return
    if len(marks) != len(texts):
        raise ValueError(f"{len(texts)} values for {len(marks)} marks of {tag['method']}")
    for mark, text in zip(marks, texts, strict=True):
        mark.set("data-tip", text)


def _references(root: ElementTree.Element) -> set[str]:
    found = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == f"{{{_LINK}}}href" and value.startswith("#"):
                found.add(value.removeprefix("#"))
            found.update(_REFERENCE.findall(value))
    return found


def _renamed(element: ElementTree.Element, used: set[str], prefix: str) -> None:
    """Prefix the ids that are referred to, and drop the others."""
    own = element.attrib.pop("id", None)
    if own in used:
        element.set("id", f"{prefix}-{own}")
    for name, value in element.attrib.items():
        # An image carries its bytes in its address.
        if name == f"{{{_LINK}}}href" and value.startswith("#"):
            element.set(name, f"#{prefix}-{value.removeprefix('#')}")
        elif "url(#" in value:
            element.set(name, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))


def _themed(style: str, colours: Mapping[str, str]) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda found: _variable(found[0], colours), style)


def _variable(colour: str, colours: Mapping[str, str]) -> str:
    return f"var({colours[colour]})" if colour in colours else colour
