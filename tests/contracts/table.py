"""The contract table: how each public function is called, so that one battery can be run on all of them.

A row is made in a module of this folder, in a tuple `ROWS`; a public function that has no row fails
`tests/test_contracts.py`. A host function (NumPy inside, refuses tracers) stands in `HOST` with the reason, and a
factory of an optax transform in `TRANSFORMS` (the optax battery has its own table): names are "package.function".
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

import tests.contracts

PACKAGES = ("maso_rnn", "maso_rnn.automata", "path_opt", "srnn")


@dataclasses.dataclass(frozen=True)
class Row:
    """How one public function is called.

    Attributes:
        function: the public function.
        arguments: `(key, dtype) -> tuple`, arguments that jit may trace: arrays and pytrees of them.
        call: `(*arguments) -> result`, where more than the function itself is needed (static options).
        batched: which arguments get a batch axis under vmap; by default the last. Empty: not under vmap, see `why`.
        gradient: which argument the gradient is tested in, or None where the maths has none, see `why`.
        tolerance: of jit against eager and vmap against loop in float64, relative to the largest number.
        why: the reasons for every exemption.
        case: tells two rows of one function apart.
    """

    function: Callable[..., Any]
    arguments: Callable[[jax.Array, Any], tuple[Any, ...]]
    call: Callable[..., Any] | None = None
    batched: tuple[int, ...] = (-1,)
    gradient: int | None = 0
    tolerance: float = 1e-12
    why: str = ""
    case: str = ""

    @property
    def name(self) -> str:
        module = self.function.__module__
        package = module if module in PACKAGES else module.split(".")[0]
        return f"{package}.{self.function.__name__}" + (f"[{self.case}]" if self.case else "")

    def __call__(self, *arguments: Any) -> Any:
        return (self.call or self.function)(*arguments)

    @functools.cached_property
    def traces(self) -> list[int]:
        """Counts how often the compiled call has been traced."""
        return [0]

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        def traced(*arguments: Any) -> Any:
            self.traces[0] += 1
            return self(*arguments)

        return jax.jit(traced)

    @functools.cached_property
    def axes(self) -> Callable[[tuple[Any, ...]], tuple[int | None, ...]]:
        def of(arguments: tuple[Any, ...]) -> tuple[int | None, ...]:
            chosen = {i % len(arguments) for i in self.batched}
            return tuple(0 if i in chosen else None for i in range(len(arguments)))

        return of

    @functools.cached_property
    def compiled_batch(self) -> Callable[..., Any]:
        return jax.jit(lambda *arguments: jax.vmap(self, in_axes=self.axes(arguments))(*arguments))

    def batch(self, key: jax.Array, dtype: Any, size: int = 2) -> tuple[Any, ...]:
        """Arguments with a batch axis on those that have one."""
        draws = [self.arguments(k, dtype) for k in jax.random.split(key, size)]
        return tuple(
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *[draw[i] for draw in draws]) if axis == 0 else draws[0][i]
            for i, axis in enumerate(self.axes(draws[0]))
        )


def _modules() -> list[Any]:
    names = [module.name for module in pkgutil.iter_modules(tests.contracts.__path__) if module.name != "table"]
    return [importlib.import_module(f"tests.contracts.{name}") for name in sorted(names)]


def rows() -> list[Row]:
    """Every row, from every module of this folder."""
    return [row for module in _modules() for row in getattr(module, "ROWS", ())]


def exempt(kind: str) -> Mapping[str, str]:
    """Every name exempted as `HOST` or `TRANSFORMS`, with the reason."""
    return {name: why for module in _modules() for name, why in getattr(module, kind, {}).items()}


def public(name: str) -> Callable[..., Any]:
    """The public function of that name, "package.function"."""
    package, _, function = name.rpartition(".")
    return getattr(importlib.import_module(package), function)


def public_functions() -> set[str]:
    """Every public function of every package, found by looking: "package.function"."""
    found = set()
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        for name in getattr(package, "__all__", ()):
            if inspect.isfunction(getattr(package, name)):
                found.add(f"{package_name}.{name}")
    return found


def result_types() -> set[type]:
    """Every public NamedTuple: what the functions return."""
    found = set()
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if inspect.isclass(value) and issubclass(value, tuple):
                found.add(value)
    return found
