"""The tests; `typechecker` is named in `setup.cfg` and must be reachable once the package is imported."""

from tests import typechecker as typechecker
