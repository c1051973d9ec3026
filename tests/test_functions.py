"""Functions of the caller: never a stale answer, one program for what does the same, arguments for what they read."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import maso_rnn
from maso_rnn import functions

H = jnp.linspace(-1.0, 1.0, 4)


@jax.jit
def core(function, h):
    return function(h), jax.grad(lambda h: function(h).sum())(h)


def value(function, h=H):
    return core(functions.traced("function", function, h), h)[0]


SCALE = 1.0


class Weights:
    def __init__(self):
        self.array, self.number, self.module = jnp.arange(4.0), np.arange(4.0), nnx.Linear(4, 4, rngs=nnx.Rngs(0))


def rebound(w):
    w.array = -3 * w.array


def in_place(w):
    w.number[0] = 7.0


def updated(w):
    w.module.kernel[...] = w.module.kernel[...] * 2


def globally(w):
    global SCALE
    SCALE = SCALE + 1.0


READERS = {
    "an array": (lambda w, h: h * w.array, rebound),
    "a NumPy array": (lambda w, h: h + w.number, in_place),
    "a module": (lambda w, h: w.module(h), updated),
    "a global": (lambda w, h: h * SCALE, globally),
    "within a function": (lambda w, h: (lambda g: g(h))(lambda h: jnp.tanh(h) * w.array), rebound),
    "within jit": (lambda w, h: jax.jit(lambda h: h * w.array + jax.jit(lambda h: h + w.number)(h))(h), rebound),
    "within scan": (lambda w, h: jax.lax.scan(lambda h, _: (h * w.array, None), h, None, length=2)[0], rebound),
    "within cond": (lambda w, h: jax.lax.cond(h[0] < 0, lambda h: h * w.array, lambda h: h, h), rebound),
    "within vmap": (lambda w, h: jax.vmap(lambda h, a: h * a)(h, w.array), rebound),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_a_function_reads_may_change(reader, compilations):
    read, change = READERS[reader]
    weights = Weights()

    def function(h):
        return read(weights, h)

    np.testing.assert_allclose(value(function), function(H), rtol=1e-12)
    before = np.asarray(function(H))
    change(weights)
    assert not np.allclose(function(H), before)
    np.testing.assert_allclose(value(function), function(H), rtol=1e-12)
    with compilations() as count:
        value(function)
        if change is not globally:  # a Python number is part of the program
            change(weights)
            value(function)
    assert len(count) <= (2 if change in (rebound, updated) else 0)  # the changes themselves are computed


def test_functions_that_do_the_same_share_a_program(compilations):
    value(lambda h: jnp.tanh(h) * 2.0 + jax.nn.relu(h) + jax.nn.silu(h))
    with compilations() as count:
        value(lambda h: jnp.tanh(h) * 2.0 + jax.nn.relu(h) + jax.nn.silu(h))
    assert not count
    assert not np.allclose(value(lambda h: jnp.tanh(h) * 3.0), value(lambda h: jnp.tanh(h) * 2.0))
    assert not np.allclose(value(lambda h: jnp.roll(h, 1)), value(lambda h: jnp.roll(h, 2)))


@pytest.mark.parametrize("kind", ["partial", "equinox", "cell", "nnx"])
def test_callable_pytrees_with_new_weights_are_not_compiled_again(kind, compilations):
    made = {
        "partial": lambda seed: jax.tree_util.Partial(lambda w, h: jnp.tanh(h @ w), normal(seed, 4, 4)),
        "equinox": lambda seed: eqx.nn.MLP(4, 3, 8, 2, key=jax.random.key(seed)),
        "nnx": lambda seed: nnx.Linear(4, 3, rngs=nnx.Rngs(seed)),
        "cell": lambda seed: maso_rnn.Cell(
            normal(seed, 4, 4), lambda w, h, x: jnp.tanh(h @ w + x), lambda w, h: h, jnp.zeros(4)
        ),
    }[kind]
    one, other = made(0), made(1)

    def call(function):
        arguments = (H, H) if kind == "cell" else (H,)
        return jax.jit(lambda f, *a: f(*a))(functions.traced("function", function, *arguments), *arguments)

    direct = [np.asarray(f(H, H) if kind == "cell" else f(H)) for f in (one, other)]
    found = jax.jit(lambda f, *a: f(*a))
    arguments = (H, H) if kind == "cell" else (H,)
    np.testing.assert_allclose(found(functions.traced("f", one, *arguments), *arguments), direct[0], rtol=1e-12)
    with compilations() as count:
        again = found(functions.traced("f", other, *arguments), *arguments)
    np.testing.assert_allclose(again, direct[1], rtol=1e-12)
    assert not count


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_a_rule_of_the_callers_own_is_never_taken_for_another():
    def scaled(by):
        @jax.custom_jvp
        def identity(h):
            return h

        identity.defjvp(lambda primals, tangents: (primals[0], by * tangents[0]))
        return identity

    rules = {"rule": scaled(2.0)}

    def function(h):
        return rules["rule"](h)

    traced = functions.traced("function", function, H)
    np.testing.assert_array_equal(core(traced, H)[1], jnp.full(4, 2.0))
    rules["rule"] = scaled(5.0)
    again = functions.traced("function", function, H)
    np.testing.assert_array_equal(core(again, H)[1], jnp.full(4, 5.0))


def test_callbacks_of_one_print_are_told_apart():
    shape = jax.ShapeDtypeStruct((4,), H.dtype)
    for by in (1.0, 2.0):

        def function(h, by=by):
            return jax.pure_callback(lambda x: np.asarray(x) * by, shape, h)

        found = jax.jit(lambda f, h: f(h))(functions.traced("function", function, H), H)
        np.testing.assert_array_equal(found, by * H)


def test_traced_weights_pass_through_every_transformation():
    def through(w, h):
        return core(functions.traced("function", lambda h: jnp.sin(h * w), h), h)[0].sum()

    w = jnp.arange(4.0)
    np.testing.assert_allclose(jax.jit(through)(w, H), jnp.sin(H * w).sum(), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(through)(w, H), H * jnp.cos(H * w), rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(through, (0, None))(jnp.stack([w, 2 * w]), H)[1], jnp.sin(2 * H * w).sum())
    _, stacked = jax.lax.scan(lambda w, _: (w + 1, through(w, H)), w, None, length=2)
    np.testing.assert_allclose(stacked, [jnp.sin(H * w).sum(), jnp.sin(H * (w + 1)).sum()], rtol=1e-12)


def test_an_activation_is_kept_by_what_it_does_and_what_it_reads(key):
    slope = {"is": 0.5}

    def act(p):
        return jnp.where(p > 0, p, slope["is"] * p)

    rnn = maso_rnn.init(key, 2, [4], 3, activation=act)
    xs = jax.random.normal(key, (5, 2))
    first = maso_rnn.forward(rnn, xs)
    slope["is"] = -1.0
    known = rnn.replace(activation=maso_rnn.leaky_relu(-1.0))
    assert not np.allclose(first, maso_rnn.forward(rnn, xs))
    np.testing.assert_allclose(maso_rnn.forward(rnn, xs), maso_rnn.forward(known, xs), rtol=1e-12)


def test_what_a_function_raises_is_passed_on_with_what_it_was_called_with():
    def broken(h):
        raise KeyError("weights")

    with pytest.raises(KeyError) as raised:
        functions.traced("readout", broken, H)
    assert any("readout" in note for note in raised.value.__notes__)
    with pytest.raises(TypeError):
        functions.traced("readout", dataclasses.make_dataclass("Some", [])(), H)
