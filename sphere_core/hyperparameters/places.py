"""Where a model is edited: a layer and one of its MLP's matrices."""

from collections.abc import Mapping, Sequence

__all__ = ["DOWN", "Place", "place_of", "place_order", "places_of", "split_place"]

# The module that writes the MLP's output into the residual stream: the edited matrix unless another is named.
DOWN = "down"
# The down projection of a layer by its number, another module as `LAYER.MODULE`: 8, "11.gate", "18.up".
Place = int | str


def place_of(layer: int, module: str) -> Place:
    """Return the place of one module of one layer."""
    return layer if module == DOWN else f"{layer}.{module}"


def split_place(place: Place) -> tuple[int, str]:
    """Return the layer and the module of a place; raises ValueError for a text that is none."""
    layer, _, module = str(place).partition(".")
    return int(layer), module or DOWN


def place_order(place: Place) -> tuple[int, bool, str]:
    """Return what places are sorted by: the layer, and inside it the order of a forward, the down projection last."""
    layer, module = split_place(place)
    return layer, module == DOWN, module


def places_of(layers: Sequence[int], sites: Mapping[str, Sequence[int]] | None) -> tuple[Place, ...]:
    """Return the places that are edited, in order: those of `sites`, layers by module, or else the down projections."""
    if sites is None:
        return tuple(layers)
    named = [place_of(layer, module) for module, chosen in sites.items() for layer in chosen]
    return tuple(sorted(named, key=place_order))
