"""Builds of the rows that write no requests: experiments on a weight's spectrum, and the unedited model."""

from sphere_core.editors.base import Editor
from sphere_core.editors.spectral_experiments import PerturbEditor, SpectrumShare, TruncateEditor
from sphere_core.editors.unedited import UneditedEditor
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.build_inputs import BuildInputs

__all__ = ["perturb", "truncate", "unedited"]


def truncate(inputs: BuildInputs) -> Editor:
    """Build the truncation of a spectrum."""
    hyperparameters = inputs.hyperparameters
    return TruncateEditor(hyperparameters.places, hyperparameters.spectrum_levels or (), _share(hyperparameters))


def perturb(inputs: BuildInputs) -> Editor:
    """Build the noise inside a band of a spectrum."""
    hyperparameters = inputs.hyperparameters
    low, high = hyperparameters.perturb_band or (0.0, 1.0)
    seed = int(hyperparameters.number("perturb_seed"))
    levels = hyperparameters.spectrum_levels or ()
    return PerturbEditor(hyperparameters.places, levels, _share(hyperparameters), (low, high), seed)


def unedited(inputs: BuildInputs) -> Editor:
    """Build the editor that writes nothing."""
    return UneditedEditor(inputs.hyperparameters.places)


def _share(hyperparameters: Hyperparameters) -> SpectrumShare:
    return hyperparameters.spectrum_share or "sum"
