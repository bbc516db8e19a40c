"""Texts that look alike and are not: why a subject seems to be in a prompt and is not found there."""

import re
import unicodedata

__all__ = ["why_absent"]

# What other data sets and templates write where the subject goes.
_PLACEHOLDER = re.compile(
    r"\{\{?\s*(?:\d+|subject|x|s|entity|name)\s*\}?\}|\[(?:x|subj\w*|s|entity)\]|<subj\w*>|%s", re.IGNORECASE
)


def why_absent(prompt: str, subject: str) -> str | None:
    """Return how to correct a prompt or a subject that looks as if it were in the prompt, or None."""

    def composed(text: str) -> str:
        return unicodedata.normalize("NFC", text)

    def plain(text: str) -> str:
        compatible = unicodedata.normalize("NFKC", text)
        return " ".join("".join(c for c in compatible if unicodedata.category(c) != "Cf").split())

    placeholder = _PLACEHOLDER.search(prompt)
    if placeholder is not None:
        return f"write '{{}}' in place of '{placeholder.group()}'"
    if composed(subject) in composed(prompt):
        return "the two are written in different Unicode forms (composed NFC, decomposed NFD): bring both into one"
    if plain(subject) in plain(prompt):
        odd = {c for c in prompt + subject if c != " " and (unicodedata.category(c) in ("Zs", "Cf") or plain(c) != c)}
        names = ", ".join(sorted(f"U+{ord(c):04X}" for c in odd)[:5])
        return f"they differ in characters that look alike or are invisible ({names}): write plain ones"
    for start in range(len(prompt) - len(subject) + 1):
        pairs = zip(prompt[start : start + len(subject)], subject, strict=True)
        other = [one + two for one, two in pairs if one != two]
        if len(other) <= len(subject) // 2 and not any(pair.isascii() for pair in other):
            names = ", ".join(sorted({f"U+{ord(c):04X}" for c in "".join(other) if not c.isascii()})[:5])
            return f"they differ in {names} only: write the same characters in both"
    if subject.casefold() in prompt.casefold():
        return "they differ in upper and lower case: write the subject exactly as it is in the prompt"
    return None
