"""Any torch module as the source of an export, made by a function of the user's own.

``package.module:factory`` names it. Its code is the user's and is run, in this process, as an
import would; nothing else is taken from a string.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeml.core.factories import current_folder_first, find_factory
from edgeml.errors import InputError

_FUNCTION = "a function without arguments that returns a module"
_EXAMPLES = "an nn.Module, or (module, examples) with a tensor, a tuple or a dict of tensors"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_EXAMPLE_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class FactoryModule:
    """What a factory made.

    Attributes:
        name: What the user called it.
        module: The module, in evaluation mode, on the CPU.
        examples: Parameter of ``forward`` to a tensor, batch first.
    """

    name: str
    module: nn.Module
    examples: Mapping[str, Tensor]


def open_factory(name: str, data: Mapping[str, npt.NDArray[Any]] | None) -> FactoryModule:
    """Import a factory and call it.

    Args:
        name: ``package.module:factory``; the current folder is searched first.
        data: Arrays by name, batch first, whose first two rows are the examples where the factory
            gives none; named as the parameters of ``forward``.

    Raises:
        InputError: There is no such module or function, it raises, it returns something else, or
            nobody gives examples that fit.
    """
    with current_folder_first():
        made = _call(_found(name), name)
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"the factory returned a {type(module).__name__}; {_EXAMPLES} was expected", item=name
        )
    module = module.eval().cpu()
    parameters = _parameters(module, name)
    if examples is not None:
        tensors = _given(examples, parameters, name)
    elif data is not None:
        tensors = _from_arrays(data, parameters, name)
    else:
        raise InputError(
            "the factory gives no examples and there is no data; an input to trace the module with "
            "was expected; let it return (module, examples), or give --data",
            item=name,
        )
    _check_batch(tensors, name)
    return FactoryModule(name=name, module=module, examples=tensors)


def _found(name: str) -> Any:
    """Return what a name of the form ``package.module:factory`` names."""
    found = find_factory(name, wanted=_FUNCTION)
    if isinstance(found, nn.Module):
        raise InputError(
            f"'{name.partition(':')[2]}' is a {type(found).__name__}; {_FUNCTION} was expected",
            item=name,
        )
    return found


def _call(factory: Any, name: str) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as exc:
        raise InputError(
            f"the factory raised {type(exc).__name__}: {exc}; {_EXAMPLES} was expected",
            item=name,
        ) from exc


def _parameters(module: nn.Module, name: str) -> dict[str, bool]:
    """Return the parameters of ``forward``, and whether each must be given."""
    rows = inspect.signature(module.forward).parameters.values()
    found = {row.name: row.default is row.empty for row in rows if row.kind in _NAMED}
    if not found:
        raise InputError(
            "the module's forward has no named parameter; one for each input was expected, since "
            "the graph's inputs take their names; give them names instead of *args",
            item=name,
        )
    return found


def _given(examples: Any, parameters: Mapping[str, bool], name: str) -> dict[str, Tensor]:
    """Return the factory's own examples by parameter."""
    if isinstance(examples, Tensor):
        examples = (examples,)
    if isinstance(examples, (tuple, list)):
        if len(examples) > len(parameters):
            raise InputError(
                f"the factory gives {len(examples)} examples; forward has {len(parameters)} "
                f"parameters ({', '.join(parameters)}); one each was expected",
                item=name,
            )
        examples = dict(zip(parameters, examples, strict=False))
    if not isinstance(examples, Mapping):
        raise InputError(
            f"the factory's examples are a {type(examples).__name__}; {_EXAMPLES} was expected",
            item=name,
        )
    for key, value in examples.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"the example of '{key}' is a {type(value).__name__}; a tensor was expected",
                item=name,
            )
    _check_names(list(examples), parameters, name, whose="the factory's examples")
    return {key: value.detach().cpu() for key, value in examples.items()}


def _from_arrays(
    data: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, bool], name: str
) -> dict[str, Tensor]:
    """Return the first rows of the arrays that are named as parameters; others are not inputs."""
    used = [key for key in parameters if key in data]
    missing = [key for key, needed in parameters.items() if needed and key not in data]
    if missing or not used:
        raise InputError(
            f"the data has the arrays {', '.join(data) or 'none'}; forward takes "
            f"{', '.join(parameters)}; an array named as each parameter was expected, or examples "
            "from the factory",
            item=name,
        )
    tensors: dict[str, Tensor] = {}
    for key in used:
        rows = np.array(data[key][:_EXAMPLE_ROWS], order="C")
        if rows.dtype == np.float64:
            rows = rows.astype(np.float32)
        try:
            tensors[key] = torch.from_numpy(rows)
        except TypeError as exc:
            raise InputError(
                f"the array '{key}' is {rows.dtype}; numbers that torch has were expected",
                item=name,
            ) from exc
    return tensors


def _check_names(
    names: Sequence[Any], parameters: Mapping[str, bool], name: str, *, whose: str
) -> None:
    unknown = [str(key) for key in names if key not in parameters]
    missing = [key for key, needed in parameters.items() if needed and key not in names]
    if unknown or missing or not names:
        raise InputError(
            f"{whose} are for {', '.join(map(str, names)) or 'nothing'}; forward takes "
            f"{', '.join(parameters)}; one for each parameter was expected",
            item=name,
        )


def _check_batch(tensors: Mapping[str, Tensor], name: str) -> None:
    sizes = {key: value.shape[0] if value.ndim else 0 for key, value in tensors.items()}
    if 0 in sizes.values() or len(set(sizes.values())) > 1:
        found = ", ".join(f"{key} {tuple(value.shape)}" for key, value in tensors.items())
        raise InputError(
            f"the examples have the shapes {found}; the same batch of at least one as the first "
            "axis of each was expected",
            item=name,
        )
