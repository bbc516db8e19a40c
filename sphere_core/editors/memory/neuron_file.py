"""Files of hidden units that were made elsewhere: read, and checked against a model and a stream. Loads no torch.

A file is safetensors. Tensors, fp32, of n units at a model of width d: `keys` and `values` `[n, d]`; `gates` `[n, d]`
and `biases` `[n]` may be left out. Its metadata are texts: `format` ("1"), `layer`, `activation`, `scope` ("tokens" or
"prompts"), `cases`, a JSON list that names for each unit the request that brings it, and with the scope "prompts"
`prompts`, a JSON list of the prompt that each unit is for.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.foundation.user_files import library_errors, refuse_wrong_kind
from sphere_core.foundation.validation import validated

__all__ = [
    "NeuronFile",
    "NeuronHeader",
    "lacking_units",
    "missing_cases",
    "read_neuron_header",
    "read_neurons",
    "require_cases",
    "require_place",
]

_WHAT, _REMEDY = "neuron file", "docs/methods.md says what a file of neurons holds"
_SHOWN = 3
_Texts = tuple[Annotated[str, Field(min_length=1)], ...]


class NeuronHeader(BaseModel):
    """The metadata of a file of neurons, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["1"] = Field(description="'1'")
    layer: int = Field(ge=0, description="The layer at whose MLP the units act, from 0")
    activation: Literal["linear", "relu", "silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "sigmoid", "tanh"] = Field(
        description="The function of k x + b, or with gates of g x + b, by transformers' name"
    )
    scope: Literal["tokens", "prompts"] = Field(
        description="'tokens': a unit reads every token; 'prompts': those of the rows with its prompt"
    )
    cases: _Texts = Field(description="The case id of the request that brings each unit")
    prompts: _Texts | None = Field(default=None, description="With the scope 'prompts', the prompt of each unit")


@dataclass(frozen=True)
class NeuronFile:
    """A file's metadata, its arrays by name (fp32), and the sha256 of its bytes."""

    header: NeuronHeader
    arrays: Mapping[str, np.ndarray]
    digest: str


def read_neuron_header(path: Path) -> NeuronHeader:
    """Return the metadata of a file of neurons; raises InputError for another file, or what is lacking or odd in it."""
    refuse_wrong_kind(path, what=_WHAT)
    with library_errors(path, what=_WHAT, remedy=_REMEDY), safe_open(path, framework="numpy") as file:
        given: dict[str, Any] = dict(file.metadata() or {})
    where = f"{path}, metadata"
    for name in ("cases", "prompts"):
        if name in given:
            given[name] = _listed(given[name], name, where)
    header = validated(NeuronHeader, given, where=where)
    fault = next(_faults(header), None)
    if fault is not None:
        raise InputError(fault, where=where, remedy=_REMEDY)
    return header


def read_neurons(path: Path) -> NeuronFile:
    """Return a file of neurons, whole.

    Raises InputError as `read_neuron_header` does, and for a tensor that is missing, unknown, of another shape or
    dtype, or not finite.
    """
    header = read_neuron_header(path)
    with library_errors(path, what=_WHAT, remedy=_REMEDY), safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        kinds = {name: str(file.get_slice(name).get_dtype()) for name in names}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    fault = next(_misshapen(len(header.cases), kinds, shapes), None)
    if fault is not None:
        raise InputError(fault, where=str(path), remedy=_REMEDY)
    with library_errors(path, what=_WHAT, remedy=_REMEDY), safe_open(path, framework="numpy") as file:
        arrays: dict[str, np.ndarray] = {name: file.get_tensor(name) for name in names}
    for name, array in arrays.items():
        odd = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        if len(odd):
            raise InputError(
                f"'{name}' holds numbers that are not finite: those of unit {odd[0]}, case {header.cases[odd[0]]}",
                where=str(path),
                remedy="leave the unit out, or give it a value of zero, which changes nothing",
            )
    return NeuronFile(header, arrays, file_digest(path))


def require_place(path: Path, *, layers: int, width: int) -> None:
    """Raise InputError if a file's layer or width is not that of a model with these."""
    header = read_neuron_header(path)
    with safe_open(path, framework="numpy") as file:
        found = file.get_slice("keys").get_shape()[-1]
    if header.layer >= layers:
        raise InputError(
            f"the units are for layer {header.layer}, the model has the layers 0 to {layers - 1}",
            where=str(path),
            remedy="give the file that was made for this model",
        )
    if found != width:
        raise InputError(
            f"the units are {found} wide, the model {width}",
            where=str(path),
            remedy="give the file that was made for this model",
        )


def require_cases(path: Path, cases: Collection[str]) -> None:
    """Raise InputError if a file has no unit for some request of a stream, by their case ids."""
    lacking = missing_cases(read_neuron_header(path), cases)
    if lacking:
        raise lacking_units(lacking, str(path))


def missing_cases(header: NeuronHeader, cases: Collection[str]) -> list[str]:
    """Return the requests that a file has no unit for, in order."""
    known = frozenset(header.cases)
    return [case for case in cases if case not in known]


def lacking_units(cases: Sequence[str], where: str) -> InputError:
    """Return the error that requests have no unit."""
    shown = ", ".join(cases[:_SHOWN]) + (f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else "")
    return InputError(
        f"the file has no unit for {len(cases)} of the requests: case {shown}",
        where=where,
        remedy="edit the others alone, or give what could not be made a unit with a value of zero: an edit that failed",
    )


def _listed(text: str, name: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"'{name}' is not JSON ({type(error).__name__})", where=where, remedy=f"{name}=json.dumps([...])"
        ) from error


def _faults(header: NeuronHeader) -> Iterator[str]:
    if not header.cases:
        yield "'cases' is empty: the file holds no unit"
    if (header.prompts is None) == (header.scope == "prompts"):
        yield f"the scope '{header.scope}' " + ("requires 'prompts'" if header.prompts is None else "has no 'prompts'")
    if header.prompts is not None and len(header.prompts) != len(header.cases):
        yield f"'prompts' has {len(header.prompts)} entries, 'cases' {len(header.cases)}: one per unit"


def _misshapen(count: int, kinds: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield which tensors of a file are not those of `count` units."""
    for name in ("keys", "values"):
        if name not in shapes:
            yield f"there is no tensor '{name}'"
            return
    if len(shapes["keys"]) != 2:
        yield f"'keys' has the shape {list(shapes['keys'])}: it must be [units, width]"
        return
    whole = (count, shapes["keys"][1])
    wanted = {"keys": whole, "values": whole, "gates": whole, "biases": (count,)}
    for name, shape in shapes.items():
        if name not in wanted:
            yield f"unknown tensor '{name}': a file has {', '.join(wanted)}"
        elif shape != wanted[name]:
            yield f"'{name}' has the shape {list(shape)}: 'cases' and 'keys' make it {list(wanted[name])}"
        elif kinds[name] != "F32":
            yield f"'{name}' is stored as {kinds[name]}: store it as float32"
