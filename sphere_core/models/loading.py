"""Loading a causal LM and its tokenizer: local folders, hub ids and the embedded fact world."""

import re
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from sphere_core.datasets.factworld import shipped_model_dir
from sphere_core.errors import InputError, unknown_name
from sphere_core.fingerprint import file_digest, fingerprint
from sphere_core.models.editable import EditableModel
from sphere_core.models.family import recognise_family

__all__ = ["DTYPES", "EMBEDDED_MODEL", "load_model", "model_digest", "resolve_model"]

EMBEDDED_MODEL = "factworld"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]
_IDENTITY_PATTERNS = ("config.json", "*.safetensors", "tokenizer*", "vocab*", "merges.txt", "special_tokens*")


def resolve_model(source: str, *, revision: str | None = None) -> Path:
    """Return the local folder of a model given by path, hub id or the name `factworld`.

    A hub id is fetched (or found in the local cache) at `revision`; safetensors only. Raises InputError
    where the folder, the repository or its safetensors are missing.
    """
    if source == EMBEDDED_MODEL:
        return shipped_model_dir()
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _fetch(source, revision)
    if not (folder / "config.json").is_file():
        raise InputError("no config.json in the model folder", where=str(folder), remedy="give a model folder")
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            "no safetensors in the model folder",
            where=str(folder),
            remedy="convert the weights with save_pretrained; pickled weights are not read",
        )
    return folder


def model_digest(folder: Path) -> str:
    """Return the digest of a model's config, weights and tokenizer files; the folder's name plays no part."""
    files = {path for pattern in _IDENTITY_PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return fingerprint({path.name: file_digest(path) for path in sorted(files)})


def load_model(
    source: str,
    *,
    dtype: str,
    device: str | torch.device,
    revision: str | None = None,
    digest: str | None = None,
) -> EditableModel:
    """Load a causal LM for editing.

    `dtype` is one of float32, bfloat16, float16 and never taken from the files. `digest` saves
    hashing the files again where the caller knows it. Raises InputError for an unknown dtype, a model of
    unknown family, or a tokenizer that gives no character offsets.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    folder = resolve_model(source, revision=revision)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    family = recognise_family(config, where=str(folder))
    network = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=DTYPES[dtype],
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation=family.attention,
    )
    tokenizer = _load_tokenizer(folder)
    torch.nn.Module.to(network, device)
    return EditableModel(network, tokenizer, family, base_digest=digest if digest is not None else model_digest(folder))


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise InputError(
            "the tokenizer gives no character offsets",
            where=str(folder),
            remedy="provide tokenizer.json (a fast tokenizer): subjects are located by offsets",
        )
    return tokenizer


def _fetch(source: str, revision: str | None) -> Path:
    if not _HUB_ID.match(source):
        raise InputError("model folder not found", where=source, remedy="check the path, or give a hub id")
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_MODEL_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"'{source}' is neither a local folder nor a model that can be fetched ({type(error).__name__})",
            where=source,
            remedy="check the path or the hub id; offline, only models already in the local cache can be used",
        ) from error
