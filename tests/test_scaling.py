"""The page on sizes says what its formulas say, and these say what XLA counts."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import maso_rnn
from benchmarks import scaling


@pytest.mark.parametrize("table", [scaling.formulas, scaling.sizes, scaling.gradients])
def test_the_page_has_the_tables_as_they_are_made(table):
    page = scaling.PAGE.read_text()
    assert scaling.with_table(page, table.__name__, table()) == page


def test_a_cost_is_written_as_it_is_computed():
    cost, size = scaling.Cost({"HHH": 4, "TH": 1, "": 2}), scaling.Size(N=7, T=3, H=2, I=5, O=1)
    assert cost.at(size) == 4 * 8 + 3 * 2 + 2
    assert str(cost) == "4·H³ + T·H + 2"


@pytest.mark.slow
@pytest.mark.parametrize("size", scaling.CHECKED, ids=str)
@pytest.mark.parametrize("name", scaling.WORKS)
def test_formulas_say_what_xla_counts(name, size):
    with jax.enable_x64(False):
        found = scaling.check(scaling.WORKS[name], size)
    # beyond the terms of the formulas there are index arithmetic and buffers of a few numbers
    assert found.results != found.results or 0.99 < found.results < 1.02
    assert 0.3 < found.temporaries < 1.05
    assert 0.9 < found.operations < 1.1


def test_a_gradient_over_devices_moves_its_own_size():
    size = scaling.Size(N=4, T=3, H=8, I=2, O=5)
    rnn = maso_rnn.init(jax.random.key(0), size.I, [size.H], size.O)
    sharding = NamedSharding(Mesh(jax.devices()[:2], ("examples",)), PartitionSpec("examples"))
    xs = jax.device_put(jnp.ones((size.N, size.T, size.I)), sharding)

    def loss(rnn, xs):
        return (jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs) ** 2).mean()

    text = jax.jit(jax.value_and_grad(loss)).lower(rnn, xs).compile().as_text()
    reduced = 0
    for shapes in re.findall(r"= (\S.*?) all-reduce\(", text):
        for dimensions in re.findall(r"f64\[([\d,]*)\]", shapes):
            reduced += int(jnp.prod(jnp.asarray([int(d) for d in dimensions.split(",") if d], int)))
    assert reduced == scaling.parameters(size) + 1  # and the loss
