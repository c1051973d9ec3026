"""Transforms that call the loss back see path values throughout: as the same transform on path values by hand."""

import jax
import numpy as np
import optax
import pytest

import maso_rnn
import path_opt
from tests.path_networks import flat, graph_of

pytestmark = pytest.mark.filterwarnings("ignore:path-space steps")


def start():
    key = jax.random.key(0)
    rnn = maso_rnn.init(key, 2, [4, 3], 2)
    rnn = jax.tree.map(
        lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.fold_in(key, leaf.size), leaf.shape), rnn
    )
    return rnn, graph_of(rnn), jax.random.normal(key, (6, 2))


RNN, GRAPH, XS = start()
VALUES, FROZEN = path_opt.path_values(RNN, GRAPH)


def loss(rnn):
    return ((maso_rnn.forward(rnn, XS) - 1) ** 2).mean()


def loss_of_values(values):
    return loss(path_opt.from_path_values(path_opt.PathValues(values, FROZEN), GRAPH))


def losses(transform, params, loss, arguments, steps):
    """The loss before each step, with `arguments(loss)` given to each update."""

    @jax.jit
    def step(carry):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = transform.update(gradient, state, params, **arguments(loss, value, gradient))
        return (optax.apply_updates(params, updates), state), value

    carry, found = (params, transform.init(params)), []
    for _ in range(steps):
        carry, value = step(carry)
        found.append(float(value))
    return found


def searching(loss, value, gradient):
    return {"value": value, "grad": gradient, "value_fn": loss}


SAM = {
    opaque: optax.contrib.sam(
        optax.sgd(0.02),
        optax.chain(optax.contrib.normalize(), optax.sgd(0.01)),
        opaque_mode=opaque,
    )
    for opaque in (True, False)
}
CASES = {
    "L-BFGS": (optax.lbfgs(), searching, 20),
    "backtracking": (optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(40)), searching, 8),
    "SAM": (SAM[True], lambda loss, value, gradient: {"grad_fn": lambda at, _: jax.grad(loss)(at)}, 6),
    "SAM by turns": (SAM[False], lambda loss, value, gradient: {}, 6),
}


@pytest.mark.parametrize("case", [pytest.param("L-BFGS", marks=pytest.mark.slow), *list(CASES)[1:]])
def test_in_path_space_it_is_what_it_is_on_path_values_by_hand(case):
    inner, arguments, steps = CASES[case]
    got = losses(path_opt.in_path_space(inner, GRAPH), RNN, loss, arguments, steps)
    wanted = losses(inner, VALUES, loss_of_values, arguments, steps)
    assert got[-1] < 0.9 * got[0]
    # the same numbers by other sums; a line search magnifies their rounding
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-9)


def test_a_gradient_kept_in_the_state_is_one_of_weights():
    transform = path_opt.in_path_space(
        optax.chain(optax.sgd(0.1), optax.scale_by_backtracking_linesearch(8, store_grad=True)), GRAPH
    )
    stored = optax.value_and_grad_from_state(loss)
    state = transform.init(RNN)
    value, gradient = stored(RNN, state=state)
    updates, state = jax.jit(lambda s: transform.update(gradient, s, RNN, **searching(loss, value, gradient)))(state)
    params = optax.apply_updates(RNN, updates)
    value, gradient = stored(params, state=state)
    np.testing.assert_allclose(value, loss(params), rtol=1e-12)
    # rounding of products and quotients along the skeleton
    np.testing.assert_allclose(flat(gradient), flat(jax.grad(loss)(params)), rtol=1e-8, atol=1e-10)


def test_what_cannot_be_translated_is_refused_by_name():
    transform = path_opt.in_path_space(optax.sgd(0.1), GRAPH)
    state = transform.init(RNN)
    with pytest.raises(TypeError, match="curvature cannot be translated into path values"):
        transform.update(RNN, state, RNN, curvature=lambda params: params)
    with pytest.raises(TypeError, match="slow cannot be translated into path values"):
        transform.update(RNN, state, RNN, slow=RNN)
    for name in ("value_fn", "obj_fn", "grad_fn"):
        with pytest.raises(TypeError, match=f"{name} must be a function"):
            transform.update(RNN, state, RNN, **{name: 1.0})


def test_a_line_search_without_its_loss_is_told_what_it_needs():
    transform = path_opt.in_path_space(optax.lbfgs(), GRAPH)
    with pytest.raises(TypeError, match="value_fn") as raised:
        transform.update(RNN, transform.init(RNN), RNN)
    assert "value, grad, value_fn" in "".join(raised.value.__notes__)
