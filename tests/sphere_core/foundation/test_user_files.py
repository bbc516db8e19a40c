"""Files that a user gives: compressed, mistaken for another kind, damaged, or not there at all."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import json_values, parse_json, read_json
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.foundation.user_files import library_errors, read_text, replace_text, text_fault

TEXT = '{"town": "Quint"}'


def gzipped(data: bytes) -> bytes:
    # The header holds no time, so that both test processes give a case the same name.
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


@pytest.mark.parametrize("pack", [gzipped, bz2.compress, lzma.compress, zstd, lambda data: data])
def test_packed_text_reads_as_plain_text_does(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(pack(b"\xef\xbb\xbf" + TEXT.encode()))
    assert read_text(path, what="file") == TEXT
    assert read_json(path, what="file") == {"town": "Quint"}


@pytest.mark.parametrize("pack", [gzipped, bz2.compress, lzma.compress])
def test_a_file_that_is_small_only_while_it_is_packed_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(pack(b" " * (3 << 20)))
    with pytest.raises(InputError, match="larger than 1 MiB once it is unpacked"):
        read_text(path, what="file", at_most=1 << 20)


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page", "raw"),
        (b"<HTML><body>", "web page", "raw"),
        (b"PK\x03\x04....", "zip archive", "unpack"),
        (b"PAR1....", "Parquet file under another name", ".parquet"),
        (b"\x80\x04\x95\x10", "pickle", "JSON"),
        (gzipped(b"version https://git-lfs.github.com/spec/v1"), "Git LFS pointer", "git lfs pull"),
        (gzipped(TEXT.encode())[:-9], "damaged gzip file", "fetch it again"),
        (b"\xfd7zXZ\x00rubbish", "damaged xz file", "fetch it again"),
        ("Härbel".encode("latin-1"), "not UTF-8 text", "iconv"),
        (TEXT.encode("utf-16"), "not UTF-8 text", "iconv"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, content: bytes, what: str, remedy: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_text(path, what="file")
    assert what in raised.value.what
    assert str(path) in str(raised.value.where)
    assert remedy in str(raised.value.remedy)


def loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda folder: folder / "missing", "not found"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: folder / "nul\0byte", "no file has such a name"),
        (lambda folder: folder / ("x" * 300), "too long"),
        (lambda folder: folder / "y" / ("x/" * 3000) / "z", "too long"),
        (loop, "leads to itself"),
        (pipe, "not a regular file"),
    ],
)
def test_a_path_that_leads_to_no_file(tmp_path: Path, make: Callable[[Path], Path], what: str) -> None:
    with pytest.raises(InputError) as raised:
        read_text(make(tmp_path), what="file")
    assert what in raised.value.what
    assert len(str(raised.value)) < 700
    assert raised.value.remedy or "\\x00" in str(raised.value.where)


@pytest.mark.parametrize(
    ("text", "what", "place"),
    [
        ('{"a": 1,\n "a": 2}', "the key 'a' is given twice", "line 1"),
        ('[{"b": {"c": 1,\n "c": 1}}]', "the key 'c' is given twice", "line 1"),
        ("[" * 200_000, "nested too deep", "line 1"),
        ('{"a":' * 200_000, "nested too deep", "line 1"),
        ('{"a": ' + "7" * 5000 + "}", "a number cannot be read", "line 1"),
        ('{"a": 1}\n{"b": 2}', "more text after the end", "line 2, column 1"),
        ("{'a': 1}", "not valid JSON", "column 2"),
        ('{"a": 1, // why\n}', "not valid JSON", "line 1"),
        ("", "not valid JSON", "line 1"),
    ],
)
def test_faults_in_json(text: str, what: str, place: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_json(text, where="file.json")
    assert what in raised.value.what
    assert place in str(raised.value.where)
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('[{"a": 1}, {"a": 2}]', [1, 1]),
        ('[\n {"a": 1},\n {"a": 2}\n]\n', [2, 3]),
        ('{"a": 1}\n\n{"a": 2}\n', [1, 3]),
        ('{\n "a": 1\n}\n{\n "a": 2\n}', [1, 4]),
        ('{"a": 1}{"a": 2}', [1, 1]),
        ('{"a": "line\\u2028"}\n{"a": "\u2028"}', [1, 2]),
    ],
)
def test_values_in_a_list_and_one_after_another(text: str, lines: list[int]) -> None:
    assert [line for _, line in json_values(text, where="file.json")] == lines


def test_a_cut_line_of_json_lines_is_the_one_that_is_named() -> None:
    text = "\n".join([json.dumps({"a": 1}), '{"a": ', json.dumps({"a": 3}), json.dumps({"a": 4})])
    with pytest.raises(InputError, match=r"file\.jsonl, line 2"):
        list(json_values(text, where="file.jsonl"))


@pytest.mark.parametrize("text", ["[1, 2", "[1 2]", "[1,]", "[1] 2"])
def test_faults_in_a_list(text: str) -> None:
    with pytest.raises(InputError, match="not valid JSON"):
        list(json_values(text, where="file.json"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Quint", None),
        ("\u200bQuint", None),
        (" ", "is empty"),
        ("\u00a0", "is empty"),
        ("\u200b\u2060", "invisible"),
        ("\u3164\u2800", "invisible"),
        ("Quint \ud800", "half a surrogate pair (U+D800)"),
    ],
)
def test_texts_that_cannot_be_read(text: str, fault: str | None) -> None:
    found = text_fault(text)
    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ValueError("header\n  too large"), "cannot be read (ValueError: header)"),
        (RecursionError(), "nested too deep"),
        (MemoryError(), "more than fits in memory"),
        (FileNotFoundError(2, "gone"), "not found"),
        (AttributeError(""), "no reason given"),
        (TypeError("x" * 5000), "cannot be read"),
    ],
)
def test_what_a_library_raises_names_the_file(error: Exception, what: str) -> None:
    with pytest.raises(InputError) as raised, library_errors("model/config.json", what="config", remedy="mend it"):
        raise error
    assert what in raised.value.what
    assert len(raised.value.what) < 300
    assert raised.value.where == "model/config.json"
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [InputError("ours"), StorageError("full"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_file_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, library_errors("file", what="file", remedy="none"):
        raise error
    assert raised.value is error


def test_a_file_is_replaced_and_a_link_to_it_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")
    (tmp_path / "link.html").symlink_to("page.html")
    replace_text(tmp_path / "link.html", "new")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "page.html").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "page.html"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "root"])
def test_only_a_file_is_replaced(tmp_path: Path, kind: str) -> None:
    path = {"device": Path("/dev/null"), "root": Path("/")}.get(kind, tmp_path / "place")
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(InputError, match="not a file"):
        replace_text(path, "text")
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
