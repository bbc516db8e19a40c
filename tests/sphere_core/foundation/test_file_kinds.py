"""Files of another kind, by their first bytes: called what they are, with a remedy that does not garble them."""

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sphere_core.datasets.files import read_records
from sphere_core.foundation.errors import InputError


def archive(first: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo(first), "x")
    return held.getvalue()


def array() -> bytes:
    held = io.BytesIO()
    np.save(held, np.eye(2))
    return held.getvalue()


KINDS = {
    "npy": (array(), "NumPy array", "JSON"),
    "npz": (archive("a.npy"), "NumPy archive", "JSON"),
    "torch": (archive("model/data.pkl"), "PyTorch file", "JSON"),
    "torch-legacy": (pickle.dumps([1], 2), "pickle", "JSON"),
    "pickle-text": (pickle.dumps([1], 0), "pickle", "JSON"),
    "pickle": (pickle.dumps([1], 5), "pickle", "JSON"),
    "xlsx": (archive("[Content_Types].xml"), "Office workbook", "CSV"),
    "zip": (archive("counterfact.json"), "zip archive", "unpack it"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "older Office", "CSV"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "PDF", "text file"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0", "picture", "text file"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "picture", "text file"),
    "rar": (b"Rar!\x1a\x07\x01\0xx", "rar archive", "unpack"),
    "arrow": (b"ARROW1\0\0\xff\xff\xff\xff", "Arrow", "Parquet"),
    "safetensors": (b"\x02\0\0\0\0\0\0\0{}", "safetensors", "text file"),
    "zeros": (b"\0" * 600, "zero bytes", "fetch it again"),
    "packed-twice": (gzip.compress(gzip.compress(b"[]", mtime=0), mtime=0), "still packed (gzip)", "unpack"),
    "text-404": (b"404: Not Found", "'404: Not Found'", "raw"),
    "text-entry": (b"Entry not found\n", "server's answer", "raw"),
    "text-login": (b"Invalid username or password.", "server's answer", "log in"),
    "json-error": (b'{"error": "Repository not found"}', "server's answer", "raw"),
    "json-message": (b'{"message": "Not Found", "documentation_url": "x"}', "server's answer", "raw"),
}


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_called_what_it_is_under_every_name(tmp_path: Path, kind: str, suffix: str) -> None:
    content, what, remedy = KINDS[kind]
    if (kind, suffix) == ("packed-twice", ".parquet"):
        content = gzip.decompress(content)
    path = tmp_path / f"d{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_records(path)
    assert what in raised.value.what
    assert remedy in str(raised.value.remedy)
    assert "UTF" not in str(raised.value)


def test_a_long_text_that_begins_like_an_answer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("not found,subject\n" + "a,b\n" * 80)
    assert len(read_records(path)) == 80
