"""Text corpora for second moments: local files, a data set on the Hugging Face hub, the fact world's own sentences.

A corpus is identified by its content: digests of files, or the commit of a hub data set. A hub data set consists of
many files, often sorted (Wikipedia's articles by page number): they are read alternately, one text from each, so that
the first texts are spread over the whole and only the head of each file is fetched.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi

from sphere_core.datasets.factworld.corpus import corpus_sentences
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.foundation.hub_ids import is_hub_id
from workflows.store.corpus import WIKIPEDIA, WITH_FIELDS, Corpus

__all__ = ["EMBEDDED_CORPUS", "WIKIPEDIA", "corpus_texts", "find_corpus", "require_texts"]

EMBEDDED_CORPUS = "factworld"
# The field's corpus, at the one commit its 2023 dump has had. Configuration, commit.
PINNED = {WIKIPEDIA: ("20231101.en", "b04c8d1ceb2f5cd4588862100d08de323dccfbaa")}
_COLUMNAR, _LINES = WITH_FIELDS[:1], WITH_FIELDS[1:]
# The libraries' errors for "not found", "offline", "no such configuration" share no closer base.
_HUB_ERRORS = (OSError, ValueError, RuntimeError)


def corpus_texts(corpus: Corpus) -> Iterator[str]:
    """Yield the texts of a corpus, without empty ones; raises InputError if they cannot be read."""
    found = (text.strip() for text in _raw(corpus))
    return (text for text in found if text)


def require_texts(corpus: Corpus, count: int) -> None:
    """Raise InputError if a corpus on this machine is unreadable or has fewer texts; uses no network."""
    if corpus.kind != "files":
        return
    found = sum(1 for _ in itertools.islice(corpus_texts(corpus), count))
    if found < count:
        raise InputError(
            f"the corpus has {found} texts, {count} are requested", where=corpus.label, remedy="request fewer"
        )


def _raw(corpus: Corpus) -> Iterator[str]:
    if corpus.kind == "factworld":
        return corpus_sentences(shipped_world(), corpus.seed)
    if corpus.kind == "hub":
        return _hub_texts(corpus)
    return itertools.chain.from_iterable(_file_texts(Path(path), corpus.field) for path in corpus.paths)


def find_corpus(
    sources: Sequence[str],
    *,
    folder: Path,
    config: str | None = None,
    revision: str | None = None,
    field: str = "text",
    seed: int = 0,
    asks_hub: bool = True,
) -> Corpus:
    """Return the corpus of a name: `factworld`, local files (relative to `folder`), or a hub id.

    A hub id is pinned: by the given commit, by the built-in one for `wikimedia/wikipedia`, or else by its current
    commit if `asks_hub`. Text files hold one text per line. Raises InputError if there is no such corpus, or no pin.
    """
    if tuple(sources) == (EMBEDDED_CORPUS,):
        return Corpus(kind="factworld", world=shipped_world().digest(), seed=seed)
    paths = [(folder / Path(source).expanduser()).resolve() for source in sources]
    missing = [source for source, path in zip(sources, paths, strict=True) if not path.is_file()]
    if not missing:
        digests = tuple(file_digest(path) for path in paths)
        return Corpus(kind="files", paths=tuple(map(str, paths)), digests=digests, field=field)
    if len(sources) > 1 or not is_hub_id(missing[0]) or Path(missing[0]).suffix in (*_COLUMNAR, *_LINES, ".txt"):
        raise InputError(
            "corpus file not found", where=missing[0], remedy="check the path, or give a hub id such as owner/name"
        )
    known_config, known_revision = PINNED.get(missing[0], (None, None))
    commit = revision or known_revision or (_commit(missing[0]) if asks_hub else None)
    if commit is None:
        raise InputError(
            f"the hub corpus '{missing[0]}' is not pinned",
            where=missing[0],
            remedy="give its `revision`, a commit: what a hub id names can change",
        )
    return Corpus(kind="hub", repository=missing[0], config=config or known_config, revision=commit, field=field)


def _commit(repository: str) -> str:
    try:
        commit = HfApi().dataset_info(repository).sha
    except _HUB_ERRORS as error:
        raise _unreachable(repository, error) from error
    return str(commit)


def _hub_texts(corpus: Corpus) -> Iterator[str]:
    # Imported here: it takes a second that a local corpus does not require.
    from datasets import load_dataset

    repository = str(corpus.repository)
    try:
        whole = load_dataset(repository, corpus.config, split="train", streaming=True, revision=corpus.revision)
        parts = [whole.shard(whole.num_shards, index) for index in range(whole.num_shards)]
        yield from _in_turn([_field_of(part, corpus) for part in parts])
    except _HUB_ERRORS as error:
        raise _unreachable(repository, error) from error


def _field_of(part: Iterable[Mapping[str, object]], corpus: Corpus) -> Iterator[str]:
    for row in part:
        if corpus.field not in row:
            raise InputError(
                f"a row has no field '{corpus.field}'",
                where=corpus.label,
                remedy=f"name the text's field with --field; there are {', '.join(row)}",
            )
        yield str(row[corpus.field])


def _in_turn(parts: Sequence[Iterator[str]]) -> Iterator[str]:
    """Yield one text from each part alternately until all are exhausted."""
    waiting = list(parts)
    while waiting:
        left = []
        for part in waiting:
            for text in itertools.islice(part, 1):
                left.append(part)
                yield text
        waiting = left


def _unreachable(repository: str, error: Exception) -> InputError:
    return InputError(
        f"'{repository}' is neither a local file nor a data set that can be read ({type(error).__name__}: {error})",
        where=repository,
        remedy="check the hub id, its configuration and the network; offline, give local text, JSONL or Parquet files",
    )


def _file_texts(path: Path, field: str) -> Iterator[str]:
    if path.suffix in _COLUMNAR:
        yield from _parquet_texts(path, field)
        return
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                yield _json_text(line, field, f"{path}, line {number}") if path.suffix in _LINES else line
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error}", where=str(path), remedy="convert the file") from error


def _json_text(line: str, field: str, where: str) -> str:
    if not line.strip():
        return ""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"not a line of JSON: {error}", where=where, remedy="one JSON object a line") from error
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        raise InputError(f"no text in the field '{field}'", where=where, remedy="name the text's field with --field")
    return str(row[field])


def _parquet_texts(path: Path, field: str) -> Iterator[str]:
    try:
        table = pq.ParquetFile(path)
        if field not in table.schema_arrow.names:
            raise InputError(
                f"no column '{field}'", where=str(path), remedy=f"there are {', '.join(table.schema_arrow.names)}"
            )
        for batch in table.iter_batches(columns=[field]):
            yield from (text or "" for text in batch.column(0).to_pylist())
    except pa.ArrowException as error:
        raise InputError(f"not a readable Parquet file: {error}", where=str(path)) from error
