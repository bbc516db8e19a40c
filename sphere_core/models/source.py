"""Where a model's files are: a local folder, a hub id at a revision, the embedded fact world."""

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint
from sphere_core.foundation.hub_ids import is_hub_id
from sphere_core.foundation.json_files import read_json
from sphere_core.foundation.user_files import refuse_wrong_kind

__all__ = ["EMBEDDED_MODEL", "commit_of", "model_digest", "resolve_model"]

EMBEDDED_MODEL = "factworld"
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_IDENTITY_PATTERNS = ("config.json", "*.safetensors", "tokenizer*", "vocab*", "merges.txt", "special_tokens*")
_MOST_JSON = 256 << 20
_OBJECT_FILES = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"),
    "model.safetensors.index.json",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def resolve_model(source: str, *, revision: str | None = None, remote_code: bool = False) -> Path:
    """Return the local folder of a model given by path, hub id or the name `factworld`.

    A hub id is fetched (or found in the local cache) at `revision`; safetensors only, and Python files only with
    `remote_code`. Raises InputError if the folder, the repository, the revision or a shard is missing, and where a
    weight file is damaged; no weight is read.
    """
    if source == EMBEDDED_MODEL:
        return shipped_model_dir()
    folder = Path(source).expanduser()
    if folder.is_file():
        raise InputError("the model is a file", where=source, remedy="give the folder that holds config.json")
    if not folder.is_dir():
        folder = _fetch(source, revision, [*_MODEL_FILES, *(["*.py"] if remote_code else [])])
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise InputError(
                "this is an adapter (LoRA or another of PEFT's), not a model",
                where=str(folder),
                remedy="merge it into its base model first: merge_and_unload() and save_pretrained() of peft",
            )
        raise InputError("no config.json in the model folder", where=str(folder), remedy="give a model folder")
    _check_json_files(folder)
    _check_weight_files(folder)
    return folder


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder of the hub's cache holds, or None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.match(folder.name) else None


def model_digest(folder: Path, *, remote_code: bool = False) -> str:
    """Return the digest of a model's config, weights and tokenizer files, and of its Python files if they are run.

    The folder's name plays no part.
    """
    patterns = (*_IDENTITY_PATTERNS, *(["*.py"] if remote_code else []))
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return fingerprint({path.name: file_digest(path) for path in sorted(files)})


def _check_json_files(folder: Path) -> None:
    """Raise InputError for a JSON file of the model that is not an object, before a library fails on it."""
    for name in _OBJECT_FILES:
        path = folder / name
        if path.exists() and not isinstance(read_json(path, what=name, at_most=_MOST_JSON), dict):
            raise InputError(f"{name} is not a JSON object", where=str(path), remedy="fetch the file again")


def _shards(index: Path) -> set[str]:
    """Return the files that an index of shards names."""
    held = read_json(index, what="index of shards", at_most=_MOST_JSON).get("weight_map")
    names = {*held.values()} if isinstance(held, dict) and all(isinstance(v, str) for v in held.values()) else set()
    if not names or any(Path(name).name != name for name in names):
        raise InputError(
            "the index of shards has no 'weight_map' from weights to files of this folder",
            where=str(index),
            remedy="fetch the file again",
        )
    return names


def _check_weight_files(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        raise InputError(
            "no safetensors in the model folder" + (f", only pickled weights ({pickled[0]})" if pickled else ""),
            where=str(folder),
            remedy="pickled weights can run code and are not read; convert them once, where that may happen: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
        )
    index = folder / "model.safetensors.index.json"
    named = _shards(index) if index.is_file() else set()
    missing = sorted(named - {path.name for path in files})
    if missing:
        raise InputError(
            f"{len(missing)} of {len(named)} shards are missing: {missing[0]}",
            where=str(folder),
            remedy="fetch the model again",
        )
    for path in files:
        refuse_wrong_kind(path, what="weight file")
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path.name} is not a whole safetensors file ({error})", where=str(path), remedy="fetch the file again"
            ) from error


def _fetch(source: str, revision: str | None, patterns: list[str]) -> Path:
    if not is_hub_id(source, needs_owner=False):
        raise InputError("model folder not found", where=source, remedy="check the path, or give a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    at = "" if revision is None else f" at revision '{revision}'"
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"'{source}'{at} is neither a local folder nor a model that can be fetched ({type(error).__name__})",
            where=source,
            remedy="check the path, the hub id and the revision; offline, only what is already in the local cache can "
            "be used",
        ) from error
