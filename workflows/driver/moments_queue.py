"""Second moments that trajectories wait for: built, failed, or to be built now."""

from collections import defaultdict, deque
from collections.abc import Iterable

from workflows.store.plan import MomentsRecipe

__all__ = ["MomentsQueue"]


class MomentsQueue:
    """Recipes by their key. A recipe is queued when the first trajectory waits for it."""

    def __init__(self, recipes: Iterable[MomentsRecipe], built: Iterable[str], failed: Iterable[str]) -> None:
        """`built` and `failed` are the keys of what was built, or could not be, before this run."""
        self._recipes = {recipe.key: recipe for recipe in recipes}
        self._built = set(built)
        self._failed = set(failed)
        self._line: deque[MomentsRecipe] = deque()
        self._held: defaultdict[str, list[str]] = defaultdict(list)

    def __len__(self) -> int:
        """Number of recipes that could be built now."""
        return len(self._line)

    @property
    def holds_any(self) -> bool:
        """Whether any trajectory waits."""
        return bool(self._held)

    def is_ready(self, key: str) -> bool:
        """Return whether the second moments of a key are built."""
        return key in self._built

    def has_failed(self, key: str | None) -> bool:
        """Return whether the second moments of a key could not be built."""
        return key in self._failed

    def hold(self, key: str, trajectory_id: str) -> None:
        """Hold a trajectory until the second moments of a key are built."""
        if key not in self._held:
            self._line.append(self._recipes[key])
        self._held[key].append(trajectory_id)

    def take(self) -> MomentsRecipe | None:
        """Take the next recipe; it returns as built, failed or put back."""
        return self._line.popleft() if self._line else None

    def put_back(self, recipe: MomentsRecipe) -> None:
        """Return a recipe, before all others."""
        self._line.appendleft(recipe)

    def built(self, key: str) -> list[str]:
        """Note that second moments are built; return the trajectories that waited for them."""
        self._built.add(key)
        return self._held.pop(key, [])

    def failed(self, key: str) -> list[str]:
        """Note that second moments could not be built; return the trajectories that waited for them."""
        self._failed.add(key)
        return self._held.pop(key, [])
