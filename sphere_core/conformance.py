"""What every row of the method table must do, checked on anybody's row: on the embedded model, in a few seconds.

from sphere_core.conformance import check_regularizer
from cap import REGULARIZERS

check_regularizer(name="cap", row=REGULARIZERS["cap"])
"""

import contextlib
import random
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sphere_core.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from sphere_core.editors.base import Editor
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.supervision import supervise
from sphere_core.methods import EditorRow, Method, RegularizerRow, resolve_method
from sphere_core.models import EditableModel, load_model
from sphere_core.moments.record import SecondMoments
from sphere_core.plugins.found import Plugins
from sphere_core.plugins.module import Plugin
from sphere_core.plugins.reference import PluginReference
from sphere_core.requests import EditRequest
from sphere_core.streams.stream import StreamSpec, load_stream
from sphere_core.trajectory import run_trajectory

__all__ = [
    "NotConformingError",
    "check_editor",
    "check_regularizer",
    "checked_plugins",
    "embedded_model",
    "embeddings",
    "few_requests",
    "generators",
    "what_failed",
]

_CONTEXTS = (("{}",),)
_EMBEDDED, _EDITS, _BATCH = "factworld", 4, 2


@contextlib.contextmanager
def _process_left_as_it_was() -> Iterator[Callable[[], None]]:
    """Yield a check that raises NotConformingError if torch's settings of the process have changed; put them back."""
    settings: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
        "gradients enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
        "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "threads": (torch.get_num_threads, torch.set_num_threads),
    }
    before = {name: read() for name, (read, _) in settings.items()}

    def refuse_changes() -> None:
        for name, (read, _) in settings.items():
            if read() != before[name]:
                found = f"{name}: {before[name]}, then {read()}"
                raise _broken("torch's settings of the process are left as they were", found)

    try:
        yield refuse_changes
    finally:
        for name, (_, write) in settings.items():
            write(before[name])


def what_failed(error: BaseException) -> str:
    """Return an error with the last line of the author's own code that it came through, or else its last line."""
    frames = traceback.extract_tb(error.__traceback__)
    release = str(Path(__file__).parents[1])
    own = [one for one in frames if not one.filename.startswith(release) and "site-packages" not in one.filename]
    place = (own or frames)[-1]
    return f"{type(error).__name__}: {error}, at {place.filename}, line {place.lineno}"


class NotConformingError(AssertionError):
    """A row breaks a rule that every row must keep."""


def check_regularizer(
    *, name: str, row: RegularizerRow, settings: Mapping[str, Any] | None = None, editor: str = "memit"
) -> None:
    """Check a regularizer on an editor of the release; `settings` are its own, defaults if left out.

    Edits the embedded model in two batches on this process's torch device `cpu` and writes to a temporary folder.
    Raises InputError for a row that a sweep would refuse, or for what its methods return or change in place,
    NotConformingError for a broken rule: the update stays finite and within the edited sites, nothing is drawn from the
    process's random generators, torch's settings stay, a trajectory resumed from a checkpoint and one on a used model
    have equal bits, and weights that are not finite are passed on.
    """
    _check(f"{editor}+{name}", "regularizer", name, row, settings, overrides={})


def check_editor(
    *,
    name: str,
    row: EditorRow,
    settings: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> None:
    """Check an editor as `check_regularizer` does; its edits must also make the new targets more likely.

    `hyperparameters` are those of the release that the row requires, on top of the embedded model's preset.
    """
    done = _check(name, "editor", name, row, settings, overrides=hyperparameters or {})
    if done.after <= done.before:
        raise _broken("edits make their new targets more likely", f"{done.before:.4f} before, {done.after:.4f} after")


@dataclass(frozen=True)
class _Done:
    """Mean log-probability of a new target's token, in nats, before and after the first batch."""

    before: float
    after: float


@dataclass(frozen=True)
class _Bench:
    method: Method
    hyperparameters: Hyperparameters
    moments: SecondMoments | None
    requests: Sequence[EditRequest]

    def editor(self) -> Editor:
        return self.method.build(self.hyperparameters, self.moments)

    def run(self, model: EditableModel, resume: Checkpoint | None = None) -> list[Checkpoint]:
        chain = run_trajectory(
            "check", self.editor(), model, self.requests, batch_size=_BATCH, contexts=_CONTEXTS, resume=resume
        )
        try:
            with _process_left_as_it_was() as refuse_changes:
                done = []
                for checkpoint in chain:
                    refuse_changes()
                    done.append(checkpoint)
                return done
        except (InputError, NotConformingError):
            raise
        except (Exception, SystemExit) as error:  # whatever the row's code raises
            raise _broken("a batch is edited without an error", what_failed(error)) from error


def checked_plugins(kind: str, name: str, row: object) -> Plugins:
    """Return plugins that hold one row, as if a file had brought it."""
    reference = PluginReference(name="the row that is checked", digest="0" * 64)
    return Plugins((Plugin(reference, "the row that is checked", {kind: {name: row}}),))


def embedded_model() -> EditableModel:
    """Return the embedded model, float32, on the CPU."""
    return load_model(_EMBEDDED, dtype="float32", device=torch.device("cpu"))


def embeddings(model: EditableModel) -> torch.Tensor:
    """Return the weight of the input embeddings."""
    weight = model.network.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def few_requests(count: int) -> tuple[EditRequest, ...]:
    """Return the first requests of the fact world."""
    return load_stream(StreamSpec(dataset="factworld", edits=count), 0)


def _check(
    method_name: str,
    kind: str,
    name: str,
    row: object,
    settings: Mapping[str, Any] | None,
    *,
    overrides: Mapping[str, Any],
) -> _Done:
    method = resolve_method(method_name, where="check", plugins=checked_plugins(kind, name, row))
    own = {name: dict(settings)} if settings else {}
    values = method.from_preset(_EMBEDDED, {"v_num_grad_steps": 3, **overrides, **own})
    method.check(values, where="check")
    model = embedded_model()
    bench = _Bench(method, values, _moments(model, values.layers), few_requests(_EDITS))
    before, named = dict(model.network.state_dict()), {site.name for site in model.open_sites(values.places)}
    before = {key: tensor.clone() for key, tensor in before.items()}
    start, drawn = _likelihood(model, bench.requests), generators()
    whole = bench.run(model)
    if generators() != drawn:
        raise _broken("nothing is drawn from the process's random generators", "seed a generator of your own")
    _require_within_sites(model, before, named, whole[-1])
    model.restore_base()
    if not _same(bench.run(model)[-1].weights, whole[-1].weights):
        found = "a second run gives other weights: unseeded numbers, the clock, or what a class or a module keeps"
        raise _broken("what ran before does not matter", found)
    _require_equal_when_resumed(bench, whole)
    _require_collapse(bench)
    model.load_weights(whole[0].weights)
    return _Done(start, _likelihood(model, bench.requests))


def _require_within_sites(
    model: EditableModel, before: Mapping[str, torch.Tensor], named: set[str], last: Checkpoint
) -> None:
    after = model.network.state_dict()
    outside = [key for key in before if key not in named and not torch.equal(before[key], after[key])]
    if outside:
        raise _broken("only edited sites change", f"{outside[0]} has changed")
    if not all(bool(torch.isfinite(weight).all()) for weight in last.weights.values()):
        raise _broken("updates are finite", "an edited weight is not, after all edits")
    if any(parameter.requires_grad for parameter in model.network.parameters()):
        raise _broken("the model is left without gradients", "a parameter still requires one")


def _require_equal_when_resumed(bench: _Bench, whole: Sequence[Checkpoint]) -> None:
    with tempfile.TemporaryDirectory(prefix="sphere-check-") as folder:
        storage = Storage(folder)
        write_checkpoint(whole[0], storage)
        resumed = bench.run(embedded_model(), read_checkpoint(storage, whole[0].edits))[-1]
    rule = "a trajectory resumed from a checkpoint has equal bits"
    if not _same(resumed.weights, whole[-1].weights):
        raise _broken(rule, "the weights differ: what changes from batch to batch must be in the state")
    if not _same(resumed.state.tensors, whole[-1].state.tensors) or resumed.state.scalars != whole[-1].state.scalars:
        raise _broken(rule, "the states differ; a scalar that is not a number differs from itself")


def _require_collapse(bench: _Bench) -> None:
    """A model whose activations are not finite gives a collapsed checkpoint, not an error."""
    model = embedded_model()
    chain = run_trajectory(
        "check", bench.editor(), model, bench.requests, batch_size=_BATCH, contexts=_CONTEXTS, resume=None
    )
    next(chain)
    with torch.no_grad():
        embeddings(model).fill_(torch.inf)
    try:
        last = next(chain)
    except Exception as error:  # whatever the row's code raises
        raise _broken("a model that is not finite is a result, not an error", what_failed(error)) from error
    if not last.collapsed and not all(bool(torch.isfinite(weight).all()) for weight in last.live.values()):
        raise _broken("weights that are not finite are marked as collapsed", "the checkpoint is not")


def _moments(model: EditableModel, layers: Sequence[int]) -> SecondMoments:
    """Return made-up second moments of full rank: the rules hold for any."""
    generator = torch.Generator().manual_seed(9)
    by_layer = {}
    for site in model.open_sites(layers):
        samples = torch.randn(site.d_in, 2 * site.d_in, generator=generator, dtype=torch.float64)
        by_layer[site.layer] = 0.01 * samples @ samples.T / samples.shape[1]
    gradients = {}
    for site in model.open_sites(layers):
        slopes = torch.randn(site.d_out, 2 * site.d_out, generator=generator, dtype=torch.float64)
        gradients[site.layer] = slopes @ slopes.T / slopes.shape[1]
    return SecondMoments(by_layer, 1, {}, gradients=gradients)


def _likelihood(model: EditableModel, requests: Sequence[EditRequest]) -> float:
    with torch.no_grad():
        return -float(supervise(model, requests[:_BATCH]).loss(model))


def generators() -> tuple[object, ...]:
    """Return the states of the random generators of this process: torch's, Python's and NumPy's."""
    drawn = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - the one that a careless draw would use
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), drawn["key"].tobytes(), drawn["pos"]


def _same(mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _broken(rule: str, found: str) -> NotConformingError:
    return NotConformingError(f"rule: {rule}; found: {found}")
