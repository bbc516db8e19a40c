"""Plain technical English: phrases of the list in CONTRIBUTING.md that must not return, in documents and code."""

import io
import re
import tokenize
from pathlib import Path

import pytest
from repository import REPOSITORY

_UNIT = (
    r"(?:attempt|batch|checkpoint|cohort|document|edit|entry|evaluator|file|group|layer|line|method|model|node|probe|"
    r"process|record|replica|request|row|score|seed|set|site|step|stream|sweep|task|token|trajectory|window)"
)
_COUNTED = (
    r"(?:once|one|bytes|edits|files?|forwards?|lines?|nats|norm|pages?|pairs?|pass|records?|rows?|seconds|sums?|times?)"
)
# A phrase, and what to write instead.
PHRASES = {
    r"\b(?:stands?(?! for\b)|stood|standing)\b": "is stored in, is, remains",
    r"\b(?:go|goes|going|gone|went) on\b": "continue, resume",
    r"\btold\b": "is given, is known; cannot be determined",
    r"\bask(?:s|ed|ing)? for\b": "request, require",
    r"\btells? (?:whether|apart)\b": "return whether, distinguish",
    r"\bkept by what\b": "content-addressed",
    r"\bkeeps? no truth\b|\btruth is (?:on|in)\b": "holds no durable state",
    rf"\b{_COUNTED} an? {_UNIT}\b": "per checkpoint",
    r"\bso many\b": "N, a number of",
    r"\bwhere (?:no|none|nothing|it stands|they stand|there (?:is|are) none)\b": "if no, without",
    r"(?<!there )\bis no (?!longer\b|more\b)": "is not a",
    r"\b\w+Error where\b|\b(?:None|False|True) where\b": "raises X if, None if",
    r"\b(?:whoever|nobody|somebody)\b": "its holder, no process, another process",
    r"\b(?:give|gives|giving|given|gave) out\b": "is unavailable, hand out",
    r"\blast word\b": "last report",
    r"\b(?:blameless|stillborn|unborn)\b": "without a counted loss, ended before it was ready",
    r"\bforetell(?:s|ing)?\b": "predict",
    # MEND is a method.
    r"\b(?-i:mend(?:s|ed|ing)?)\b": "fix, repair",
    r"\banew\b": "again",
    r"\bheld against\b": "compared with, checked against, validated on",
    r"\bat (?:your|their|its) word\b": "used without a check",
    r"\bbrings? along\b": "uses, requires",
}
PATTERNS = [re.compile(phrase, re.IGNORECASE) for phrase in PHRASES]
# The list itself names what it replaces.
SUBSTITUTIONS = re.compile(r"^\| instead of \| write \|$.*?^$", re.MULTILINE | re.DOTALL)


def found_phrases(text: str) -> list[str]:
    """Return every phrase of the list that a text holds."""
    paragraphs = [re.sub(r"\s+", " ", paragraph) for paragraph in re.split(r"\n\s*\n", text)]
    return [match[0] for flat in paragraphs for pattern in PATTERNS for match in pattern.finditer(flat)]


def prose_of(source: str) -> str:
    """Return the comments, docstrings and other texts of a Python source; strings of one word are keys and names."""
    kinds = (tokenize.COMMENT, tokenize.STRING, tokenize.FSTRING_MIDDLE if hasattr(tokenize, "FSTRING_MIDDLE") else -1)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = [token.string.lstrip("#") for token in tokens if token.type in kinds]
    return "\n\n".join(text for text in texts if len(text.split()) > 1)


def documents() -> list[Path]:
    """Return the Markdown files of the project."""
    return [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", documents(), ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_documents_are_plain(page: Path) -> None:
    assert found_phrases(SUBSTITUTIONS.sub("", page.read_text(encoding="utf-8"))) == []


# lm-eval task files enter the identity of scores by their digests, so their text cannot change.
LEFT_AS_THEY_ARE = {"evaluators/general/presets/corpus_documents.py"}


def test_code_is_plain() -> None:
    files = {
        path.relative_to(REPOSITORY).as_posix(): path
        for folder in ("sphere_core", "evaluators", "workflows", "benchmarks", "docs")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }
    checked = {name: path for name, path in files.items() if name not in LEFT_AS_THEY_ARE}
    broken = {name: found_phrases(prose_of(path.read_text(encoding="utf-8"))) for name, path in checked.items()}
    assert {name: phrases for name, phrases in broken.items() if phrases} == {}


def test_the_list_in_contributing_is_left_out_once() -> None:
    assert len(SUBSTITUTIONS.findall((REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The value stands in the file.",
        "editing goes\n    on from there",
        "it cannot be told",
        "what is asked for",
        "one row a checkpoint",
        "the last so many edits",
        "where nothing fails",
        "A collapse is no failure.",
        "whoever holds the lock",
        "storage has given out",
        "the cache is mended",
        "it is computed anew",
        "rates were held against no card",
        "the name is taken at your word",
        "the models that a method brings along",
    ],
)
def test_a_phrase_is_found(text: str) -> None:
    assert len(found_phrases(text)) == 1


@pytest.mark.parametrize(
    "text", ["S stands for the subject", "there is no file", "it is no longer kept", "once per checkpoint", "a row"]
)
def test_plain_text_passes(text: str) -> None:
    assert found_phrases(text) == []


def test_prose_of_code_is_comments_and_strings() -> None:
    source = 'def stands():\n    """It goes on."""\n    # it is told\n    return f"so many {x}"\n'
    assert len(found_phrases(prose_of(source))) == 3
