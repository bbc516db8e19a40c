"""What the perplexity task reads from a corpus."""

from datasets import Dataset

__all__ = ["with_text"]


def with_text(documents: Dataset) -> Dataset:
    """Return the documents that hold more than white space; a text file gives one a line."""
    return documents.select([place for place, text in enumerate(documents["text"]) if text and text.strip()])
