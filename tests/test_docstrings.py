"""Every public function says what it computes, from what, with which errors, with an example that runs.

That the examples run is the doctests' to show; here they are only looked for.
"""

import importlib
import inspect
import pkgutil

import pytest

import maso_rnn
import path_opt
import srnn

# public, and not imported by a package
IMPORTED_BY_NAME = ("adapters", "automata", "batches", "files", "plots", "plots_automata", "report")


def public_functions():
    """By name, all functions of the packages' `__all__` and of the modules that are imported by name."""
    found = {}
    for package in (maso_rnn, path_opt, srnn):
        modules = [package]
        for module in pkgutil.iter_modules(package.__path__):
            if module.name in IMPORTED_BY_NAME:
                modules.append(importlib.import_module(f"{package.__name__}.{module.name}"))
        for module in modules:
            for name in getattr(module, "__all__", vars(module)):
                value = getattr(module, name)
                is_own = inspect.isfunction(value) and value.__module__.startswith(module.__name__)
                if is_own and not name.startswith("_"):
                    found[f"{module.__name__}.{name}"] = value
    return found


@pytest.mark.parametrize("name", public_functions())
def test_a_public_function_tells_its_user_what_is_needed(name):
    function = public_functions()[name]
    signature, told = inspect.signature(function), inspect.getdoc(function) or ""
    first = told.split("\n\n")[0]
    assert first.endswith("."), first
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
        assert f"    {stars}{parameter.name}: " in told, f"{parameter.name} is not explained"
    assert signature.return_annotation is not signature.empty
    assert "Returns:\n" in told or signature.return_annotation in (None, "None")
    assert ">>> " in told.partition("Example:\n")[2]
