"""Each transform on the RNN inside a larger flax model, the rest under Adam: the example, run."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

import path_opt
from tests.path_networks import log_normal

PATH = pathlib.Path(__file__).parents[1] / "examples" / "path_in_model.py"
SPEC = importlib.util.spec_from_file_location("path_in_model", PATH)
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)

pytestmark = pytest.mark.filterwarnings("ignore:path-space steps")
NAMES = ["in_path_space", "path_space_sgd", "path_space_adam", "scale_by_path_norm", "path_sgd", "equivariant_adam"]


# linen's and nnx's parameters are dictionaries and states; one library runs every transform, the other one of each kind
@pytest.mark.parametrize(
    ("model", "name"),
    [("nnx_model", "path_space_sgd"), ("linen_model", "equivariant_adam")]
    + [
        pytest.param("nnx_model", name, marks=pytest.mark.slow)
        for name in ("in_path_space", "path_space_adam", "scale_by_path_norm", "path_sgd", "equivariant_adam")
    ]
    + [pytest.param("linen_model", name, marks=pytest.mark.slow) for name in ("path_space_adam", "path_sgd")],
)
def test_every_transform_trains_its_part_of_the_model(model, name):
    params, apply, graph = getattr(example, model)()
    assert set(example.transforms(graph)) == set(NAMES)
    optimizer = example.partitioned(params, graph, example.transforms(graph)[name])
    after, losses, _ = example.train(params, apply, optimizer, steps=40)
    assert jax.tree.structure(after) == jax.tree.structure(params)
    assert losses[-1] < 0.9 * losses[0]
    # of both parts every kernel has moved
    for (path, old), new in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(after), strict=True):
        assert np.any(old != new), jax.tree_util.keystr(path)


@pytest.mark.parametrize("log_scale", [0.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_a_stack_trains_under_its_optimizer_and_says_what_was_skipped(log_scale):
    losses, said = example.train_stack(lambda graph: path_opt.equivariant_adam(1e-2, graph=graph), log_scale, steps=30)
    assert losses[-1] < 0.95 * losses[0]
    assert "no step was skipped" in said


def test_the_whole_model_computes_the_same_after_rescaling_its_rnn(key):
    params, apply, graph = example.linen_model()
    tokens = jax.random.randint(key, (4, example.TIME), 0, example.TOKENS)
    named = set(jax.tree.leaves(graph.names))
    masked = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if _name(path) in named else None, params)
    rescaled = path_opt.rescale(masked, graph, log_normal(graph, key, sd=1.0))
    other = jax.tree.map(
        lambda new, old: old if new is None else new, rescaled, params, is_leaf=lambda leaf: leaf is None
    )
    # float32 weights
    np.testing.assert_allclose(apply(other, tokens), apply(params, tokens), rtol=1e-3, atol=1e-4)


def test_a_model_that_is_not_partitioned_is_refused_by_leaf():
    params, _, graph = example.linen_model()
    with pytest.raises(ValueError, match=r"a leaf that the graph does not know: embed/embedding.*optax\.partition"):
        path_opt.path_space_adam(1e-3, graph=graph).init(params)


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")
