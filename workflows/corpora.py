"""Text corpora for second moments: the fact world's own sentences, or a text file with one text a line."""

import itertools
from pathlib import Path

from sphere_core.datasets.factworld import corpus_sentences, shipped_world
from sphere_core.errors import InputError

__all__ = ["EMBEDDED_CORPUS", "read_corpus"]

EMBEDDED_CORPUS = "factworld"


def read_corpus(corpus: str, count: int, seed: int) -> list[str]:
    """Return `count` texts of a corpus, empty lines left out; raises InputError where it is missing or too short.

    `seed` draws the sentences of the embedded corpus; a file is read from its beginning.
    """
    if corpus == EMBEDDED_CORPUS:
        return corpus_sentences(shipped_world(), count, seed)
    path = Path(corpus)
    if not path.is_file():
        raise InputError("corpus file not found", where=corpus, remedy="check the path")
    with path.open(encoding="utf-8") as handle:
        texts = list(itertools.islice((line.strip() for line in handle if line.strip()), count))
    if len(texts) < count:
        raise InputError(
            f"the corpus has {len(texts)} texts, {count} are asked for", where=corpus, remedy="ask for fewer"
        )
    return texts
