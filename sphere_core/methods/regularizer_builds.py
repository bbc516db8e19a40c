"""From hyperparameters to a regularizer: the `filter` and `read_out` of each row of the table of regularizers."""

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.regularizers.balance import Balance
from sphere_core.regularizers.prune import Prune
from sphere_core.regularizers.rect import Rect
from sphere_core.regularizers.revive import Revive
from sphere_core.regularizers.sphere import Sphere

__all__ = ["balance", "prune", "rect", "revive", "sphere"]


def sphere(hyperparameters: Hyperparameters) -> Sphere:
    """Build SPHERE, as a filter of updates or of the accumulated change."""
    ratio, strength = hyperparameters.number("energy_ratio"), hyperparameters.number("strength")
    return Sphere(energy_ratio=ratio, strength=strength, basis=hyperparameters.basis)


def revive(hyperparameters: Hyperparameters) -> Revive:
    """Build REVIVE."""
    return Revive(
        threshold=hyperparameters.number("revive_threshold"),
        energy=hyperparameters.revive_energy,
        weight=hyperparameters.revive_weight,
        basis=hyperparameters.revive_basis,
    )


def rect(hyperparameters: Hyperparameters) -> Rect:
    """Build RECT."""
    return Rect(keep=hyperparameters.number("rect_keep"))


def balance(hyperparameters: Hyperparameters) -> Balance:
    """Build the balance of an update's spectrum."""
    return Balance(strength=hyperparameters.number("balance_strength"))


def prune(hyperparameters: Hyperparameters) -> Prune:
    """Build PRUNE, which has no hyperparameters."""
    return Prune()
