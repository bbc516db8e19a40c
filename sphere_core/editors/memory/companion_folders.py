"""The folders of SERAC's two models, looked at before anything runs. Loads no torch."""

from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError, inside
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.json_files import read_json
from sphere_core.hyperparameters.fields import Hyperparameters
from sphere_core.models.source import model_digest, resolve_model

__all__ = ["companions_digest", "require_same_tokens", "with_companions"]

TRAIN = "or train one: sphere serac train"
_MOST_JSON = 256 << 20


def companions_digest(classifier: str, counterfactual: str) -> str:
    """Return the digest of the content of both folders; raises InputError for one without a model."""
    digests: dict[str, Any] = {}
    for name, folder in (("serac_classifier", classifier), ("serac_counterfactual", counterfactual)):
        if not Path(folder).is_dir():
            raise InputError("there is no such folder", where=f"{name}: {folder}", remedy=f"give its path, {TRAIN}")
        with inside(name):
            digests[name] = model_digest(resolve_model(folder))
    return fingerprint(digests)


def with_companions(values: Hyperparameters, folder: Path) -> Hyperparameters:
    """Return hyperparameters with absolute paths of SERAC's folders, relative ones from `folder`, and their digest.

    Others are returned as they are. Raises InputError for a folder that is missing or holds no model, and where the
    hyperparameters give a digest that is not theirs.
    """
    if values.serac_classifier is None or values.serac_counterfactual is None:
        return values
    paths = [str((folder / Path(path).expanduser()).resolve()) for path in _paths(values)]
    digest = companions_digest(*paths)
    if values.serac_digest not in (None, digest):
        raise InputError(
            "SERAC's folders have another content than the given digest says",
            where=f"serac_digest: {values.serac_digest}",
            remedy=f"leave it out, or write {digest}",
        )
    named = dict(zip(("serac_classifier", "serac_counterfactual"), paths, strict=True))
    return values.model_copy(update={**named, "serac_digest": digest})


def require_same_tokens(values: Hyperparameters, model: Path) -> None:
    """Raise InputError if SERAC's counterfactual model has other tokens than a model, as far as their files say."""
    if values.serac_counterfactual is None:
        return
    other = Path(values.serac_counterfactual)
    found = [_tokens(model), _tokens(other)]
    if None not in found and found[0] != found[1]:
        raise InputError(
            "the counterfactual model has another tokenizer than the edited model",
            where=f"serac_counterfactual: {other}",
            remedy=f"give a model with the same tokens, {TRAIN}",
        )


def _paths(values: Hyperparameters) -> tuple[str, str]:
    return values.serac_classifier or "", values.serac_counterfactual or ""


def _tokens(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    model = read_json(path, what="tokenizer", at_most=_MOST_JSON).get("model")
    return model.get("vocab") if isinstance(model, dict) else None
