"""The editors that change no weight, a row each."""

from collections.abc import Mapping

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.rows import TARGET_NAMES, EditorRow, never

__all__ = ["MEMORIES"]

_DESCENT = (
    ("memory_background",),
    ("memory_seed",),
    ("memory_stop_loss",),
    ("weight_decay",),
    ("lr",),
    ("num_steps",),
)


def _side_memories(hyperparameters: Hyperparameters, d_in: int, d_out: int, edits: int) -> float:
    merged, left = divmod(edits, int(hyperparameters.number("wise_merge_edits")))
    return 4.0 * d_in * d_out * (merged + -(-left // int(hyperparameters.number("wise_shard_edits"))))


def _scope_table(_: Hyperparameters, d_in: int, d_out: int, edits: int) -> float:
    # A feature as wide as BERT's and a sentence of 24 tokens.
    return edits * (4.0 * 768 + 8 * 24)


MEMORIES: Mapping[str, EditorRow] = {
    "neuraldb": EditorRow(
        title="NeuralDB: keys and residuals in a table, added where a token's key is near one of them",
        paper="arXiv 2507.18028",
        build="sphere_core.methods.memory_builds:neuraldb",
        requires=(*TARGET_NAMES, ("memory_threshold",)),
        needs_moments=never,
        state="a key and a residual per edit, d_in + d_out numbers",
        attaches=True,
    ),
    "retrieve": EditorRow(
        title="Retrieve: the nearest edit as a sentence before the prompt",
        paper="after SERAC, IKE and SCR, arXiv 2606.00570",
        build="sphere_core.methods.memory_builds:retrieve",
        requires=(("memory_threshold",),),
        needs_moments=never,
        state="a feature and a sentence per edit",
        attaches=True,
    ),
    "neurons": EditorRow(
        title="Neurons: hidden units of the MLP that were made elsewhere, from a file",
        paper="after MeG, arXiv 2512.14395, and T-Patcher, arXiv 2301.09785",
        build="sphere_core.methods.memory_builds:neurons",
        requires=(("neurons_file",),),
        needs_moments=never,
        state="the units of each edit, two or three vectors of the model's width",
        attaches=True,
        stored=lambda _, d_in, d_out, edits: 4.0 * edits * 3 * d_out,
        remedy="the path of a file; docs/methods.md says what it holds",
    ),
    "serac": EditorRow(
        title="SERAC: a scope classifier sends prompts to a model that reads the edit",
        paper="arXiv 2206.06520",
        build="sphere_core.methods.memory_builds:serac",
        requires=(("serac_classifier",), ("serac_counterfactual",), ("memory_threshold",)),
        needs_moments=never,
        state="a feature and a sentence per edit",
        attaches=True,
        stored=_scope_table,
        remedy="both are folders of models, which are trained before a sweep: sphere serac train",
    ),
    "memoir": EditorRow(
        title="MEMOIR: one residual memory, of which a prompt's features select the part that answers",
        paper="arXiv 2506.07899",
        build="sphere_core.methods.memory_builds:memoir",
        requires=(("memory_threshold",), ("memoir_keep",), ("gradient_clip",), *_DESCENT),
        needs_moments=never,
        state="one matrix, and a mask of d_in bits per edit",
        attaches=True,
        in_contexts=True,
        stored=lambda _, d_in, d_out, edits: 4.0 * d_in * d_out + edits * d_in / 8,
    ),
    "grace": EditorRow(
        title="GRACE: a codebook of keys with radii; near a key the site gives its value instead",
        paper="arXiv 2211.11031",
        build="sphere_core.methods.memory_builds:grace",
        requires=(("grace_radius",), ("grace_start",), ("memory_seed",), ("lr",), ("num_steps",)),
        needs_moments=never,
        state="a key, a value and a radius per edit, d_in + d_out numbers",
        attaches=True,
    ),
    "wise": EditorRow(
        title="WISE: side memories of one weight, of which a prompt reads the one that it moves most",
        paper="arXiv 2405.14768",
        build="sphere_core.methods.memory_builds:wise",
        requires=(
            ("wise_share",),
            ("wise_margins",),
            ("wise_ratio",),
            ("wise_shard_edits",),
            ("wise_merge_edits",),
            ("wise_density",),
            ("norm_constraint",),
            *_DESCENT,
        ),
        needs_moments=never,
        state="a matrix per side memory, and the unrelated texts",
        attaches=True,
        in_contexts=True,
        stored=_side_memories,
    ),
}
