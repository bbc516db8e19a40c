"""Folders that memories require, looked at before anything runs: the folders of SERAC's two models and of a sentence
encoder, a file of neurons. Loads no torch."""

from pathlib import Path
from typing import Any, Literal

from sphere_core.editors.memory.neuron_file import read_neurons
from sphere_core.foundation.errors import InputError, inside
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.json_files import read_json
from sphere_core.hyperparameters.fields import Hyperparameters
from sphere_core.models.source import model_digest, resolve_model

__all__ = [
    "Pooling",
    "companions_digest",
    "encoder_digest",
    "require_same_tokens",
    "same_digest",
    "sentence_pooling",
    "with_companions",
]

Pooling = Literal["first", "mean"]

TRAIN = "or train one: sphere serac train"
_MOST_JSON = 256 << 20


def companions_digest(classifier: str, counterfactual: str) -> str:
    """Return the digest of the content of both folders; raises InputError for one without a model."""
    folders = {"serac_classifier": classifier, "serac_counterfactual": counterfactual}
    return fingerprint({name: _content(name, folder, f", {TRAIN}") for name, folder in folders.items()})


def encoder_digest(folder: str) -> str:
    """Return the digest of the content of a sentence encoder's folder, its pooling included.

    Raises InputError for a folder without a model, and for a pooling that is not read here.
    """
    content = _content("retrieve_encoder", folder, "")
    return fingerprint({"retrieve_encoder": content, "pooling": sentence_pooling(Path(folder))})


def sentence_pooling(folder: Path) -> Pooling:
    """Return how a folder's encoder makes one feature of a text's states, by the file of Sentence Transformers.

    `mean` without that file. Raises InputError for another pooling than the first state or the mean.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    said = read_json(path, what="pooling", at_most=_MOST_JSON)
    modes = {name.removeprefix("pooling_mode_") for name, on in said.items() if on is True and "pooling_mode" in name}
    if modes == {"mean_tokens"}:
        return "mean"
    if modes == {"cls_token"}:
        return "first"
    raise InputError(
        f"the encoder pools by {', '.join(sorted(modes)) or 'nothing'}",
        where=str(path),
        remedy="give an encoder that pools by mean_tokens or cls_token",
    )


def with_companions(values: Hyperparameters, folder: Path) -> Hyperparameters:
    """Return hyperparameters with absolute paths of what they name, relative ones from `folder`, and the digest
    of its content.

    Others are returned as they are. Raises InputError for a folder that is missing or holds no model, for a faulty
    file, and where the hyperparameters give a digest that is not theirs.
    """
    found: dict[str, Any] = {}
    if values.serac_classifier is not None and values.serac_counterfactual is not None:
        places = [_absolute(path, folder) for path in (values.serac_classifier, values.serac_counterfactual)]
        found |= dict(zip(("serac_classifier", "serac_counterfactual"), places, strict=True))
        found["serac_digest"] = same_digest("serac_digest", values.serac_digest, companions_digest(*places))
    if values.retrieve_encoder is not None:
        place = _absolute(values.retrieve_encoder, folder)
        found["retrieve_encoder"] = place
        found["retrieve_digest"] = same_digest("retrieve_digest", values.retrieve_digest, encoder_digest(place))
    if values.neurons_file is not None:
        place = _absolute(values.neurons_file, folder)
        found["neurons_file"] = place
        with inside("neurons_file"):
            found["neurons_digest"] = same_digest(
                "neurons_digest", values.neurons_digest, read_neurons(Path(place)).digest
            )
    return values.model_copy(update=found) if found else values


def _content(name: str, folder: str, otherwise: str) -> str:
    if not Path(folder).is_dir():
        raise InputError("there is no such folder", where=f"{name}: {folder}", remedy=f"give its path{otherwise}")
    with inside(name):
        return model_digest(resolve_model(folder))


def _absolute(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def same_digest(name: str, given: str | None, digest: str) -> str:
    """Return the digest of what is there; raises InputError if another was given."""
    if given not in (None, digest):
        raise InputError(
            "there is another content than the given digest says",
            where=f"{name}: {given}",
            remedy=f"leave it out, or write {digest}",
        )
    return digest


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


def _tokens(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    model = read_json(path, what="tokenizer", at_most=_MOST_JSON).get("model")
    return model.get("vocab") if isinstance(model, dict) else None
