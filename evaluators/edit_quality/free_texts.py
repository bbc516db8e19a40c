"""What is measured on generated texts: exact match, containing the answer, n-gram entropy, TF-IDF likeness."""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluators.edit_quality.settings import Words

__all__ = ["WORDS", "contains", "exact", "likeness", "ngram_entropy", "normalised"]

# Word tokenizers that need no data files; an entropy is comparable with those of the same one only.
WORDS: Mapping[Words, Callable[[str], list[str]]] = {
    "whitespace": str.split,
    "regex-words": re.compile(r"\w+|[^\w\s]").findall,
}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and English articles, single blanks (SQuAD's rule)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(text: str, answer: str) -> bool:
    """Return whether two texts are equal after normalising; an answer that is empty then never matches."""
    return bool(normalised(answer)) and normalised(text) == normalised(answer)


def contains(text: str, answer: str) -> bool:
    """Return whether the text contains the answer's words, in order and contiguous, after normalising."""
    wanted = normalised(answer)
    return bool(wanted) and f" {wanted} " in f" {normalised(text)} "


def ngram_entropy(text: str, words: Words) -> float:
    """Return MEMIT's fluency of a text in bits: (2/3 H_2 + 4/3 H_3) / 2, H_n the entropy of its n-grams.

    As released (Meng et al., arXiv 2202.05262), but for the word tokenizer, which is named. A text too short to have an
    n-gram has H_n = 0, as has one that repeats a single n-gram; published tables print the value times 100.
    """
    tokens = WORDS[words](text)
    return (2 / 3 * _entropy(tokens, 2) + 4 / 3 * _entropy(tokens, 3)) / 2


def _entropy(tokens: Sequence[str], n: int) -> float:
    counts = Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def likeness(generated: Sequence[str], references: Sequence[str], words: Words) -> np.ndarray:
    """Return the cosine of the TF-IDF vectors of each generated text and its reference; 0 if one is empty.

    Vocabulary and inverse document frequencies are those of the distinct reference texts, smoothed, as scikit-learn
    does by default. The released code takes both from files of its own, so that its numbers are not comparable.
    """
    # Imported where it is used: it takes a second, and few runs use it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(tokenizer=WORDS[words], token_pattern=None, lowercase=True)
    vectoriser.fit(sorted(set(references)))
    # Rows have norm 1 (or 0), so that the dot product is the cosine.
    ours, theirs = vectoriser.transform(generated), vectoriser.transform(references)
    return np.asarray(ours.multiply(theirs).sum(axis=1)).ravel()
