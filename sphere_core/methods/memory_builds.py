"""From hyperparameters to an editor that changes no weight: the `build` of each of their rows.

Each acts at one layer; raises InputError for several. That of a file of neurons is said by the file.
"""

from pathlib import Path

from sphere_core.editors.base import Editor
from sphere_core.editors.memory.companion_folders import companions_digest, encoder_digest, same_digest
from sphere_core.editors.memory.descent import DescentSettings
from sphere_core.editors.memory.grace import GraceEditor, GraceSettings
from sphere_core.editors.memory.memoir import MemoirEditor
from sphere_core.editors.memory.neuraldb import NeuralDBEditor
from sphere_core.editors.memory.neuron_file import read_neurons
from sphere_core.editors.memory.neurons import NeuronsEditor
from sphere_core.editors.memory.retrieve import RetrievalEditor
from sphere_core.editors.memory.serac import SeracEditor
from sphere_core.editors.memory.wise import WiseEditor, WiseSettings
from sphere_core.foundation.errors import InputError
from sphere_core.methods.build_inputs import BuildInputs
from sphere_core.methods.builds import single_layer, target_settings

__all__ = ["grace", "memoir", "neuraldb", "neurons", "retrieve", "serac", "wise"]


def neuraldb(inputs: BuildInputs) -> Editor:
    """Build NeuralDB."""
    layer = single_layer(inputs, "NeuralDB")
    return NeuralDBEditor(target_settings(inputs), layer, inputs.hyperparameters.number("memory_threshold"))


def retrieve(inputs: BuildInputs) -> Editor:
    """Build the retrieval baseline; the digest of its encoder's folder is found where the plan has not."""
    hyperparameters = inputs.hyperparameters
    encoder = hyperparameters.retrieve_encoder
    digest = None if encoder is None else hyperparameters.retrieve_digest or encoder_digest(encoder)
    layer = single_layer(inputs, "Retrieval")
    return RetrievalEditor(layer, hyperparameters.number("memory_threshold"), encoder, digest)


def serac(inputs: BuildInputs) -> Editor:
    """Build SERAC on the two folders; their digest is found where the plan has not."""
    hyperparameters = inputs.hyperparameters
    folders = hyperparameters.serac_classifier or "", hyperparameters.serac_counterfactual or ""
    digest = hyperparameters.serac_digest or companions_digest(*folders)
    return SeracEditor(*folders, digest, hyperparameters.number("memory_threshold"))


def neurons(inputs: BuildInputs) -> Editor:
    """Build the editor of a file of neurons; raises InputError for a file that has changed since it was planned."""
    hyperparameters = inputs.hyperparameters
    place = hyperparameters.neurons_file or ""
    file = read_neurons(Path(place))
    same_digest("neurons_digest", hyperparameters.neurons_digest, file.digest)
    return NeuronsEditor(file, place)


def grace(inputs: BuildInputs) -> Editor:
    """Build GRACE."""
    hyperparameters = inputs.hyperparameters
    settings = GraceSettings(
        layer=single_layer(inputs, "GRACE"),
        radius=hyperparameters.number("grace_radius"),
        lr=hyperparameters.number("lr"),
        steps=int(hyperparameters.number("num_steps")),
        start=hyperparameters.grace_start or "cold",
        seed=int(hyperparameters.number("memory_seed")),
    )
    return GraceEditor(settings)


def memoir(inputs: BuildInputs) -> Editor:
    """Build MEMOIR."""
    hyperparameters = inputs.hyperparameters
    return MemoirEditor(
        layer=single_layer(inputs, "MEMOIR"),
        keep=int(hyperparameters.number("memoir_keep")),
        threshold=hyperparameters.number("memory_threshold"),
        background=int(hyperparameters.number("memory_background")),
        seed=int(hyperparameters.number("memory_seed")),
        descent=_descent(inputs, clip=hyperparameters.number("gradient_clip")),
    )


def wise(inputs: BuildInputs) -> Editor:
    """Build WISE; raises InputError unless merges fall between two memories."""
    hyperparameters = inputs.hyperparameters
    shard, merge = (int(hyperparameters.number(f"wise_{name}_edits")) for name in ("shard", "merge"))
    if merge % shard:
        raise InputError(
            f"wise_merge_edits ({merge}) must be a multiple of wise_shard_edits ({shard})",
            where="hyperparameter 'wise_merge_edits'",
            remedy=f"for example {-(-merge // shard) * shard}",
        )
    settings = WiseSettings(
        layer=single_layer(inputs, "WISE"),
        margins=hyperparameters.wise_margins or (0.0, 0.0, 0.0),
        ratio=hyperparameters.number("wise_ratio"),
        share=hyperparameters.number("wise_share"),
        bound=hyperparameters.number("norm_constraint"),
        shard_edits=shard,
        merge_edits=merge,
        density=hyperparameters.number("wise_density"),
        background=int(hyperparameters.number("memory_background")),
        seed=int(hyperparameters.number("memory_seed")),
        descent=_descent(inputs, clip=None),
    )
    return WiseEditor(settings)


def _descent(inputs: BuildInputs, *, clip: float | None) -> DescentSettings:
    hyperparameters = inputs.hyperparameters
    return DescentSettings(
        lr=hyperparameters.number("lr"),
        steps=int(hyperparameters.number("num_steps")),
        weight_decay=hyperparameters.number("weight_decay"),
        clip=clip,
        stop_loss=hyperparameters.number("memory_stop_loss"),
    )
