"""Networks of flax, equinox, and of weights alone: the same outputs, or a refusal that names the layer."""

import functools

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import maso_rnn
from maso_rnn import adapters
from tests.test_network import network, states

XS = jax.random.normal(jax.random.key(5), (9, 3), "float32")
TOKENS = np.arange(9) % 4
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # float32, two libraries' orders of summing


def assert_last_output(network, wanted, xs=XS):
    """Of a network that reads its last step, or every step."""
    if isinstance(network, maso_rnn.RNN):
        got = maso_rnn.last_output(network, xs)
    else:
        got = maso_rnn.linearize(network, xs).output
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, np.asarray(wanted).reshape(-1, got.shape[0])[-1], **CLOSE)


def filled(shapes):
    """Weights of these shapes: an initialiser compiles for each of them."""
    random = np.random.default_rng(0)

    def weights(leaf):
        return jnp.asarray(random.uniform(-0.5, 0.5, leaf.shape), "float32")

    return jax.tree.map(lambda leaf: weights(leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, shapes)


# flax nnx


class Model(nnx.Module):
    """An encoder, a recurrent layer, a norm, dropout, a head of two layers that is read once."""

    def __init__(self, kind=nnx.SimpleCell, norm=None, *, embeds=False, loops=False, function=nnx.relu, residual=False):
        rngs = nnx.Rngs(0)
        options = {"activation_fn": nnx.relu, "residual": residual} if kind is nnx.SimpleCell else {}
        self.embedding = nnx.Embed(4, 3, rngs=rngs) if embeds else None
        self.encoder = nnx.Linear(3, 5, rngs=rngs)
        self.cell = kind(5, 7, rngs=rngs, **options)
        self.rnn = None if loops else nnx.RNN(self.cell)
        self.norm = None if norm is None else norm(7, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.List([nnx.Linear(7, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])
        self.function = function
        if isinstance(self.norm, nnx.BatchNorm):
            self.norm.mean[...] = jnp.linspace(-1, 1, 7, dtype=jnp.float32)
            self.norm.var[...] = jnp.linspace(0.5, 2, 7, dtype=jnp.float32)
        self.eval()

    def __call__(self, xs):
        xs = xs if self.embedding is None else self.embedding(xs)
        xs = self.function(self.encoder(xs))
        if self.rnn is None:
            carry, states = self.cell.initialize_carry(xs[:, 0].shape, nnx.Rngs(0)), []
            for t in range(xs.shape[1]):
                carry, h = self.cell(carry, xs[:, t])
                states.append(h)
            xs = jnp.stack(states, axis=1)
        else:
            xs = self.rnn(xs)
        xs = xs if self.norm is None else self.norm(xs)
        return self.head[1](nnx.relu(self.head[0](self.dropout(xs)[:, -1])))


NNX = {
    "plain": (Model(), True),
    "residual": (Model(residual=True), True),
    "batch norm": (Model(norm=nnx.BatchNorm), True),
    "embedding": (Model(embeds=True), True),
    "a loop": (Model(loops=True), True),
    "GRU": (Model(nnx.GRUCell), "rnn"),
    "LSTM": (Model(nnx.LSTMCell), "rnn"),
    "fast LSTM": (Model(nnx.OptimizedLSTMCell), "rnn"),
    "layer norm": (Model(norm=nnx.LayerNorm), "norm"),
    "RMS norm": (Model(norm=nnx.RMSNorm), "norm"),
    "two activations": (Model(function=nnx.tanh), "one activation"),
}


@pytest.mark.parametrize("name", NNX)
def test_an_nnx_model_is_composed_or_refused_by_name_and_always_a_cell(name, unchecked):
    model, has_pieces = NNX[name]
    xs = TOKENS if name == "embedding" else XS
    wanted = model(jnp.asarray(xs)[None])
    assert_last_output(maso_rnn.cell(model), wanted, xs)
    if has_pieces is True:
        rnn = adapters.from_nnx(model)
        assert_last_output(rnn, wanted, xs)
        assert [layer.recurrent_kernel is None for layer in rnn.layers] == [True, False, True]
    else:
        with pytest.raises(ValueError, match=has_pieces):
            adapters.from_nnx(model)


def test_a_list_of_nnx_modules_is_taken_in_its_order():
    model = Model(norm=nnx.BatchNorm)
    parts = [model.encoder, nnx.relu, model.rnn, model.norm, model.dropout, model.head[0], "relu", model.head[1]]
    for made in (adapters.from_nnx(parts), maso_rnn.cell(parts)):
        assert_last_output(made, model(XS[None]))


@pytest.mark.parametrize("activation", [nnx.relu, nnx.tanh, nnx.leaky_relu, nnx.relu6, jnp.abs, nnx.hard_tanh])
def test_stacked_nnx_cells_give_the_same_outputs(activation):
    rngs = nnx.Rngs(0)
    cells = [nnx.SimpleCell(a, b, activation_fn=activation, rngs=rngs) for a, b in [(3, 7), (7, 4)]]
    for cell in cells:
        cell.dense_i.bias[...] = jax.random.normal(rngs.params(), cell.dense_i.bias.shape, "float32")
    head, ys = nnx.Linear(4, 2, rngs=rngs), XS[None]
    for cell in cells:
        ys = nnx.RNN(cell)(ys)
    rnn = adapters.from_nnx([*cells, head])
    np.testing.assert_allclose(maso_rnn.forward(rnn, XS), head(ys)[0], **CLOSE)


def test_to_nnx_and_back(key):
    rnn = network(key, 2, dtype="float32")
    layers, readout = adapters.to_nnx(rnn)
    again = adapters.from_nnx([*layers, readout])
    jax.tree.map(np.testing.assert_array_equal, again, rnn)


def test_nnx_modules_that_no_network_here_is_are_refused_by_name(unchecked):
    rngs = nnx.Rngs(0)
    cell, head = nnx.SimpleCell(3, 7, activation_fn=nnx.relu, rngs=rngs), nnx.Linear(7, 2, rngs=rngs)
    training = nnx.BatchNorm(7, rngs=rngs)
    for modules, error, message in [
        ([nnx.Bidirectional(nnx.RNN(cell), nnx.RNN(cell)), head], ValueError, r"\[0\] \(Bidirectional\)"),
        ([nnx.RNN(cell, reverse=True), head], ValueError, r"\[0\] runs in reverse"),
        ([cell, nnx.Dropout(0.5, rngs=rngs), head], ValueError, r"\[1\] \(Dropout\) is in training mode"),
        ([cell, training, head], ValueError, r"\[1\] \(BatchNorm\) is in training mode"),
        ([cell, nnx.Conv(7, 7, 3, rngs=rngs), head], TypeError, r"\[1\] \(Conv\) is not known"),
        ([cell, nnx.log_softmax, head], ValueError, r"\[1\] \(log_softmax\)"),
        ([cell, nnx.Linear(4, 2, rngs=rngs)], ValueError, r"\[1\] takes 4 .* \[0\] gives 7"),
        ([cell, nnx.Embed(3, 7, rngs=rngs)], ValueError, r"\[1\] is an embedding"),
        ([head], ValueError, "recurrent layer"),
        ([cell, equinox.nn.Linear(7, 2, key=jax.random.key(0))], TypeError, r"\[1\] \(Linear\) has weights"),
        ([cell, linen.Dense(2).bind({"params": {}})], TypeError, r"\[1\] \(Dense\) has weights"),
    ]:
        with pytest.raises(error, match=message):
            adapters.from_nnx(modules)
    with pytest.raises(ValueError, match="rnn is not given what encoder returns"):
        adapters.from_nnx(Model(function=jnp.sin))
    with pytest.raises(ValueError, match="something else than its modules"):
        adapters.from_nnx(Model(), order=("encoder", "rnn", "head.0", "relu", "head.1"))
    with pytest.raises(ValueError, match=r"order must name .*\['tail'\]"):
        adapters.from_nnx(Model(), order=("encoder", "tail"))
    with pytest.raises(TypeError, match=r"maso_rnn.Cell"):
        maso_rnn.cell(object())


# flax linen


class Linen(linen.Module):
    kind: type = linen.SimpleCell
    norm: type | None = None
    embeds: bool = False
    layers: int = 1
    trains: bool = False

    @linen.compact
    def __call__(self, xs):
        options = {"activation_fn": linen.relu} if self.kind is linen.SimpleCell else {}
        xs = linen.Embed(4, 3)(xs) if self.embeds else xs
        xs = linen.relu(linen.Dense(5)(xs))
        for _ in range(self.layers):
            xs = linen.RNN(self.kind(7, **options))(xs)
        if self.norm is not None:
            xs = self.norm(**({"use_running_average": not self.trains} if self.norm is linen.BatchNorm else {}))(xs)
        xs = linen.Dropout(0.5, deterministic=True)(xs)
        xs = linen.relu(linen.Dense(4)(xs[:, -1]))
        return linen.Dense(2)(xs)


LINEN = {
    "plain": (Linen(), True),
    "batch norm": (Linen(norm=linen.BatchNorm), True),
    "embedding": (Linen(embeds=True), True),
    "GRU": (Linen(linen.GRUCell), "GRUCell_0"),
    "LSTM": (Linen(linen.LSTMCell), "LSTMCell_0"),
    "layer norm": (Linen(norm=linen.LayerNorm), "LayerNorm_0"),
}


@pytest.mark.parametrize("name", LINEN)
def test_a_linen_model_is_composed_or_refused_by_name_and_always_a_cell(key, name, unchecked):
    module, has_pieces = LINEN[name]
    xs = TOKENS if name == "embedding" else XS
    model = module.bind(module.init(key, jnp.asarray(xs)[None]))
    wanted = model(jnp.asarray(xs)[None])
    assert_last_output(maso_rnn.cell(model), wanted, xs)
    if has_pieces is True:
        assert_last_output(adapters.from_linen(model), wanted, xs)
    else:
        with pytest.raises(ValueError, match=has_pieces):
            adapters.from_linen(model)


@pytest.mark.slow
def test_a_trained_linen_model_keeps_its_outputs(key, unchecked):
    """Embedding, encoder, two RNNs, batch norm, dropout, MLP head."""
    options = {"embeds": True, "layers": 2, "norm": linen.BatchNorm}
    trains, evaluates = Linen(**options, trains=True), Linen(**options)
    tokens = np.random.default_rng(0).integers(0, 4, (8, 6))
    averages = {"BatchNorm_0": {"mean": jnp.zeros(7, "float32"), "var": jnp.ones(7, "float32")}}
    params = filled(jax.eval_shape(trains.init, key, tokens)["params"])
    variables = before = {"params": params, "batch_stats": averages}

    @jax.jit
    def step(variables):
        def loss(params):
            outputs, rest = trains.apply(variables | {"params": params}, tokens, mutable=["batch_stats"])
            return ((outputs - 1) ** 2).mean(), rest

        slope, rest = jax.grad(loss, has_aux=True)(variables["params"])
        return {"params": jax.tree.map(lambda leaf, by: leaf - 0.1 * by, variables["params"], slope)} | rest

    for _ in range(3):
        variables = step(variables)
    assert all((new != old).any() for new, old in zip(*map(jax.tree.leaves, (variables, before)), strict=True))
    wanted = jax.jit(evaluates.apply)(variables, tokens)
    assert_last_output(adapters.from_linen(evaluates.bind(variables)), wanted[0], tokens[0])


def test_linen_variables_need_an_order_and_an_activation(key, unchecked):
    module = Linen(norm=linen.BatchNorm)
    variables = module.init(key, XS[None])
    order = ("Dense_0", "relu", "SimpleCell_0", "BatchNorm_0", "Dense_1", "relu", "Dense_2")
    for read in (adapters.from_linen, maso_rnn.cell):
        assert_last_output(read(variables, order=order, activation="relu"), module.apply(variables, XS[None]))
        with pytest.raises(ValueError, match=r"order must be given.*BatchNorm_0"):
            read(variables, activation="relu")
        with pytest.raises(ValueError, match=r"activation must be given.*SimpleCell_0"):
            read(variables, order=order)
        with pytest.raises(ValueError, match=r"lacks \['BatchNorm_0'\]"):
            read(variables, order=(*order[:3], *order[4:]), activation="relu")


def test_linen_cells_that_are_none_here_are_refused_by_name(key):
    both = linen.Bidirectional(linen.RNN(linen.GRUCell(4)), linen.RNN(linen.GRUCell(4)))
    for module, error, message in [(Linen(linen.MGUCell), TypeError, "MGUCell"), (both, ValueError, "Bidirectional")]:
        model = module.bind(module.init(key, XS[None]))
        for read in (maso_rnn.cell, adapters.from_linen):
            with pytest.raises(error, match=message):
                read(model)


def test_to_linen_and_back(key):
    rnn = network(key, 2, dtype="float32")
    again = adapters.from_linen(adapters.to_linen(rnn), order=("layers_0", "layers_1", "readout"), activation="relu")
    jax.tree.map(np.testing.assert_array_equal, again, rnn)


def test_what_other_libraries_have_no_place_for_is_refused(key):
    rnn = network(key, 1)
    for odd, message in [
        (rnn.replace(initial=states(key, rnn)), "learned initial state"),
        (rnn.replace(embedding=jnp.ones((4, 3))), "embedding"),
        (rnn.replace(layers=(rnn.layers[0].replace(recurrent_kernel=None),)), "no recurrent kernel"),
    ]:
        for function in (adapters.to_nnx, adapters.to_linen, adapters.to_torch):
            with pytest.raises(ValueError, match=message):
                function(odd)


@pytest.mark.parametrize(
    ("behind", "message"),
    [
        (lambda model, z: z.mean(1) * model.scale, "something else than its modules"),
        (lambda model, z: z @ model.mix, "have another size"),
    ],
    ids=["pooled", "mixed"],
)
def test_what_is_done_to_the_outputs_is_never_dropped(behind, message, unchecked):
    class Behind(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.rnn, self.head = (
                nnx.RNN(nnx.SimpleCell(3, 4, activation_fn=nnx.relu, rngs=rngs)),
                nnx.Linear(4, 2, rngs=rngs),
            )
            self.scale, self.mix = nnx.Param(jnp.array([2.0, 3.0])), nnx.Param(jnp.ones((2, 3)))

        def __call__(self, xs):
            return behind(self, self.head(self.rnn(xs)))

    with pytest.raises(ValueError, match=message):
        adapters.from_nnx(Behind())


def test_a_head_that_is_read_once_is_seen_to_be(unchecked):
    assert adapters.from_nnx(Model()).read_once
    assert not adapters.from_nnx(Every()).read_once


class Every(Model):
    """The same, read at every step."""

    def __call__(self, xs):
        xs = self.rnn(nnx.relu(self.encoder(xs)))
        return self.head[1](nnx.relu(self.head[0](xs)))


def test_layers_that_are_none_here_are_named_and_so_is_a_function_that_chooses_a_step(unchecked):
    rngs = nnx.Rngs(0)
    rnn, head = nnx.RNN(nnx.SimpleCell(3, 4, rngs=rngs)), nnx.Linear(4, 2, rngs=rngs)
    with pytest.raises(TypeError, match=r"\[1\] .* of one step at a time"):
        maso_rnn.cell(nnx.Sequential(rnn, lambda h: h[:, -1], head))
    with pytest.raises(TypeError, match="got the class Model"):
        adapters.from_nnx(Model)
    with pytest.raises(TypeError, match="got str"):
        adapters.from_linen("model")


def test_linen_weights_beside_modules_are_named(unchecked):
    cell = {"i": {"kernel": jnp.ones((1, 8))}, "h": {"kernel": jnp.eye(8)}}
    weights = {"rnn": cell, "head": {"kernel": jnp.ones((8, 3))}, "scale": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"order must be given.*'scale'"):
        adapters.from_linen(weights, activation="relu")
    gru = {f"{side}{gate}": {"kernel": jnp.ones((8, 8))} for side in "ih" for gate in "rzn"}
    with pytest.raises(ValueError, match=r"activation .* rnn has gates"):
        maso_rnn.cell({"rnn": gru, "head": {"kernel": jnp.ones((8, 3))}}, activation="relu")


# equinox


def test_an_equinox_perceptron_is_a_head(key):
    cell = equinox.nn.GRUCell(3, 7, key=key, dtype="float32")
    mlp = equinox.nn.MLP(7, 2, 4, 2, key=key, dtype="float32")
    carry = jnp.zeros(7, "float32")
    for x in XS:
        carry = cell(x, carry)
    assert_last_output(maso_rnn.cell([cell, mlp]), mlp(carry))


class Equinox(equinox.Module):
    encoder: equinox.nn.Linear
    cell: equinox.Module
    norm: equinox.nn.LayerNorm
    head: equinox.nn.Linear

    def __call__(self, xs):
        zeros = jnp.zeros(7, xs.dtype)

        def step(carry, x):
            return self.cell(self.encoder(x), carry), None

        carry, _ = jax.lax.scan(step, zeros if isinstance(self.cell, equinox.nn.GRUCell) else (zeros, zeros), xs)
        return self.head(self.norm(jax.tree.leaves(carry)[0]))


@pytest.mark.parametrize("kind", [equinox.nn.GRUCell, equinox.nn.LSTMCell])
def test_equinox_modules_and_lists_of_them_are_cells(key, kind):
    keys, options = jax.random.split(key, 3), {"dtype": "float32"}
    parts = [
        equinox.nn.Linear(3, 5, key=keys[0], **options),
        kind(5, 7, key=keys[1], **options),
        equinox.nn.LayerNorm(7, **options),
        equinox.nn.Linear(7, 2, key=keys[2], **options),
    ]
    wanted = Equinox(*parts)(XS)
    assert_last_output(maso_rnn.cell(parts), wanted)
    assert_last_output(maso_rnn.cell(Equinox(*parts)), wanted)
    own = type("MLP", (Equinox,), {})  # a name that a layer of equinox has too
    assert_last_output(maso_rnn.cell(own(*parts)), wanted)
    with pytest.raises(ValueError, match="something else than its modules"):
        maso_rnn.cell(Equinox(*parts), order=("encoder", "cell", "head"))


class Whole(equinox.Module):
    """What people stack around equinox's cells, on one sequence."""

    embedding: equinox.nn.Embedding | None
    encoder: equinox.nn.Linear
    cells: list
    backward: equinox.Module | None
    norm: equinox.Module
    dropout: equinox.nn.Dropout
    head: equinox.nn.MLP

    def __init__(self, kinds=(equinox.nn.GRUCell,), norm=None, *, embeds=False, both=False, key):
        keys, single = jax.random.split(key, 5), {"dtype": "float32"}
        widths = [5, *(7 for _ in kinds)]
        self.embedding = equinox.nn.Embedding(4, 3, key=keys[0], **single) if embeds else None
        self.encoder = equinox.nn.Linear(3, 5, key=keys[1], **single)
        self.cells = [kind(width, 7, key=keys[2], **single) for kind, width in zip(kinds, widths, strict=False)]
        self.backward = kinds[0](5, 7, key=keys[3], **single) if both else None
        self.norm = equinox.nn.Identity() if norm is None else norm(14 if both else 7)
        self.dropout = equinox.nn.Dropout(0.3)
        self.head = equinox.nn.MLP(14 if both else 7, 2, 4, 1, key=keys[4], **single)

    def __call__(self, xs):
        xs = xs if self.embedding is None else jax.vmap(self.embedding)(xs)
        xs = encoded_xs = jax.nn.relu(jax.vmap(self.encoder)(xs))
        for cell in self.cells:
            xs = run_of(cell, xs)
        if self.backward is not None:
            xs = jnp.concatenate([xs, run_of(self.backward, encoded_xs[::-1])], axis=1)
        return self.head(self.norm(self.dropout(xs[-1])))


def run_of(cell, xs):
    """(time, hidden)."""
    zeros = jnp.zeros(7, xs.dtype)

    def step(carry, x):
        carry = cell(x, carry)
        return carry, carry[0] if isinstance(carry, tuple) else carry

    return jax.lax.scan(step, (zeros, zeros) if isinstance(cell, equinox.nn.LSTMCell) else zeros, xs)[1]


@pytest.mark.slow
def test_a_trained_equinox_model_keeps_its_outputs(key, unchecked):
    """Embedding, encoder, two RNNs, layer norm, dropout, MLP head."""
    norm = functools.partial(equinox.nn.LayerNorm, dtype="float32")
    options = {"embeds": True, "kinds": (equinox.nn.GRUCell, equinox.nn.LSTMCell), "norm": norm}
    order = ("embedding", "encoder", "relu", "cells.0", "cells.1", "dropout", "norm", "head")
    tokens = np.random.default_rng(0).integers(0, 4, (8, 6))
    model = filled(equinox.filter_eval_shape(Whole, **options, key=key))
    with pytest.raises(ValueError, match=r"dropout \(Dropout\) is in training mode"):
        maso_rnn.cell(model)
    model = before = equinox.nn.inference_mode(model)

    @equinox.filter_jit
    def step(model):
        slope = equinox.filter_grad(lambda model: ((jax.vmap(model)(tokens) - 1) ** 2).mean())(model)
        return equinox.apply_updates(model, jax.tree.map(lambda leaf: -0.1 * leaf, slope))

    for _ in range(3):
        model = step(model)
    weights = (jax.tree.leaves(equinox.filter(tree, equinox.is_inexact_array)) for tree in (model, before))
    assert all((new != old).any() for new, old in zip(*weights, strict=True))
    assert_last_output(maso_rnn.cell(model, order=order), model(tokens[0]), tokens[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `BatchNorm`:UserWarning")
def test_equinox_modules_that_no_cell_holds_are_refused_by_name(key):
    """Batch norm keeps its averages beside the module, where they are not given."""
    front = ("encoder", "relu", "cells.0")
    norm = functools.partial(equinox.nn.BatchNorm, axis_name="batch", mode="batch")
    for options, order, error, message in [
        ({"norm": norm}, (*front, "norm", "head"), TypeError, r"norm \(BatchNorm\) is not known"),
        ({"both": True}, (*front, "backward", "head"), ValueError, r"backward takes 5 .* cells.0 gives 7"),
    ]:
        model = filled(equinox.nn.inference_mode(equinox.filter_eval_shape(Whole, **options, key=key)))
        with pytest.raises(error, match=message):
            maso_rnn.cell(model, order=order)


# our own


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_our_own_network_as_a_cell(key, activation):
    rnn = network(key, 2, activation)
    xs = XS.astype(float)
    linear = maso_rnn.linearize(maso_rnn.cell(rnn), xs)
    slope = jax.jacobian(functools.partial(maso_rnn.last_output, rnn))(xs)
    np.testing.assert_allclose(linear.slope, slope, rtol=1e-10, atol=1e-12)  # float64
    np.testing.assert_allclose(linear.output, maso_rnn.last_output(rnn, xs), rtol=1e-12)


def test_the_weights_of_a_cell_are_leaves(key):
    rnn = network(key, 1)
    xs = XS.astype(float)

    def loss(rnn, linearized):
        output = maso_rnn.linearize(maso_rnn.cell(rnn), xs).output if linearized else maso_rnn.last_output(rnn, xs)
        return (output**2).sum()

    got, wanted = (jax.grad(loss)(rnn, linearized) for linearized in (True, False))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), got, wanted)  # float64


def test_a_cell_with_new_weights_is_not_compiled_again():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if "backend_compile" in event else None
    )
    rngs = nnx.Rngs(0)
    cells = [maso_rnn.cell([nnx.GRUCell(3, 5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)]) for _ in range(2)]
    maso_rnn.linearize(cells[0], XS)
    before = len(compiled)
    assert before
    maso_rnn.linearize(cells[1], XS)
    assert len(compiled) == before


# layers without recurrence, and tokens


def encoded(key, dtype="float64"):
    """Encoder, two recurrent layers, head; and the same by hand."""
    rnn = network(key, 2, dtype=dtype)
    first, second = rnn.layers
    keys = jax.random.split(key, 4)
    hidden = first.input_kernel.shape[0]
    encoder = maso_rnn.Layer(jax.random.normal(keys[0], (3, hidden), dtype), None, jnp.ones(hidden, dtype))
    width = second.recurrent_kernel.shape[0]
    head = maso_rnn.Layer(jax.random.normal(keys[1], (width, 6), dtype), None, None)
    readout = maso_rnn.Readout(jax.random.normal(keys[2], (6, 2), dtype))
    return rnn.replace(layers=(encoder, first, second, head), readout=readout)


def test_a_cell_carries_the_recurrent_layers_only(key):
    rnn = encoded(key)
    cell = maso_rnn.cell(rnn)
    assert [h.shape for h in cell.initial] == [layer.recurrent_kernel.shape[:1] for layer in rnn.layers[1:3]]
    xs = XS.astype(float)
    np.testing.assert_allclose(maso_rnn.linearize(cell, xs).output, maso_rnn.last_output(rnn, xs), rtol=1e-12)


def test_tokens_are_embedded_and_analysed_as_what_they_are_embedded_to(key, unchecked):
    rnn = network(key, 1)
    table = jax.random.normal(key, (4, rnn.layers[0].input_kernel.shape[0]))
    with_table = rnn.replace(embedding=table)
    cell = maso_rnn.cell(with_table)
    for function, one in [(maso_rnn.forward, rnn), (maso_rnn.affine_map, rnn), (maso_rnn.boundary_distance, rnn)]:
        jax.tree.map(np.testing.assert_array_equal, function(with_table, TOKENS), function(one, table[TOKENS]))
    slope = maso_rnn.linearize(cell, TOKENS).slope
    np.testing.assert_allclose(slope, maso_rnn.affine_map(rnn, table[TOKENS]).slope, rtol=1e-10, atol=1e-12)
    assert np.isnan(jax.jit(maso_rnn.forward)(with_table, jnp.array([0, 4]))).any()
    for beyond in (np.array([0, 4]), np.array([-1])):
        for function, given in ((maso_rnn.forward, with_table), (maso_rnn.linearize, cell)):
            with pytest.raises(ValueError, match=r"xs must be in \[0, 3\]"):
                function(given, beyond)
    padded = np.concatenate([TOKENS, [4, -1]])  # behind the length any token will do
    for function, given in ((maso_rnn.affine_map, with_table), (maso_rnn.linearize, cell)):
        got = function(given, padded, length=len(TOKENS))
        np.testing.assert_allclose(got.slope[:, : len(TOKENS)], slope, rtol=1e-10, atol=1e-12)
    for length in (len(TOKENS) + 1, 0, len(padded) + 1):
        with pytest.raises(ValueError, match=r"xs must be in|length must be in"):
            maso_rnn.forward(with_table, padded, length=length)
    with pytest.raises(TypeError, match="one_hot"):
        maso_rnn.forward(rnn, TOKENS)


# weights alone


def state(**extra):
    random = np.random.default_rng(0)
    shapes = {"rnn.weight_ih_l0": (8, 3), "rnn.weight_hh_l0": (8, 8), "rnn.bias_ih_l0": (8,), "rnn.bias_hh_l0": (8,)}
    shapes |= {"head.weight": (2, 8), "head.bias": (2,)}
    return {name: random.standard_normal(shape).astype("float32") for name, shape in shapes.items()} | extra


def test_weights_left_over_are_named(unchecked):
    ones = np.ones(8, "float32")
    norm = {"norm.weight": ones, "norm.bias": ones}
    other = {"other.weight": np.ones((2, 8), "float32")}
    statistics = {"norm.running_mean": ones, "norm.running_var": ones, "norm.num_batches_tracked": np.array(3)}
    for read in (adapters.from_torch, maso_rnn.cell):
        for extra in (norm, other, {"initial": ones}):
            with pytest.raises(ValueError, match="order must be given"):
                read(state(**extra), activation="relu")
            with pytest.raises(ValueError, match=r"order must name every module.*lacks"):
                read(state(**extra), activation="relu", order=("rnn", "head"))
        with pytest.raises(ValueError, match="norm holds weight"):
            read(state(**norm), activation="relu", order=("rnn", "norm", "head"))
        read(state(**norm, **statistics), activation="relu", order=("rnn", "norm", "head"))
    with pytest.raises(ValueError, match="activation must be given"):
        adapters.from_torch(state())


def test_weights_that_do_not_fit_are_named_by_their_own_names(unchecked):
    plain, relu = state(), {"activation": "relu"}
    gates = state() | {"rnn.weight_hh_l0": np.ones((24, 8), "float32"), "rnn.weight_ih_l0": np.ones((24, 3), "float32")}
    gates |= {name: np.ones(24, "float32") for name in ("rnn.bias_ih_l0", "rnn.bias_hh_l0")}
    without = {name: value for name, value in plain.items() if "weight_hh" not in name}
    for weights, options, error, message in [
        (plain | {"head.weight": np.ones((2, 7), "float32")}, relu, ValueError, "head takes 7 .* rnn gives 8"),
        (plain | {"head.weight": np.ones((2, 8), "float16")}, relu, TypeError, "float32 in rnn, float16 in head"),
        (plain, {**relu, "order": ("rnn", "head", "head")}, ValueError, "head takes 8 .* head gives 2"),
        (plain | {"rnn.weight_hr_l0": np.ones((4, 8), "float32")}, relu, ValueError, "rnn has projections"),
        (without, relu, ValueError, "rnn lacks weight_hh"),
        (gates, relu, ValueError, "activation is that of .* rnn has gates"),
        ({"state_dict": plain, "epoch": 3}, relu, TypeError, "got dict as state_dict; give what is in it"),
        (plain | {"step_count": np.ones(())}, relu, ValueError, "order must be given.*step_count"),
        ("rnn.pt", {}, TypeError, "got str; torch.load"),
    ]:
        with pytest.raises(error, match=message):
            adapters.from_torch(weights, **options)
    with pytest.raises(ValueError, match="gates"):
        maso_rnn.cell(gates, **relu)


def test_a_network_in_one_line_without_its_numbers():
    cell = maso_rnn.cell(state(), activation="relu")
    assert str(cell) == "Cell(8 state variables, float32, 114 parameters)"


def test_a_run_of_a_cell_gives_the_carry_of_every_step():
    rnn = adapters.from_torch(state(), activation="relu")
    (states,) = maso_rnn.cell(rnn).run(XS[:3])
    np.testing.assert_allclose(states, maso_rnn.trajectory(rnn, XS[:3]).states[0], **CLOSE)


def test_a_matrix_in_front_is_an_embedding_where_only_that_fits(unchecked):
    order = ("first", "rnn", "head")
    table = np.random.default_rng(1).standard_normal((4, 3)).astype("float32")
    rnn = adapters.from_torch({"first.weight": table} | state(), activation="relu", order=order)
    np.testing.assert_array_equal(rnn.embedding, table)
    plain = adapters.from_torch(state(), activation="relu")
    np.testing.assert_array_equal(maso_rnn.forward(rnn, TOKENS), maso_rnn.forward(plain, table[TOKENS]))
    encoder = adapters.from_torch({"first.weight": table.T} | state(), activation="relu", order=order)
    assert encoder.embedding is None
    np.testing.assert_allclose(
        maso_rnn.forward(encoder, np.ones((5, 4), "float32")),
        maso_rnn.forward(plain, np.ones((5, 4), "float32") @ table),
        **CLOSE,
    )
    with pytest.raises(ValueError, match=r"first.weight .* could be a linear layer or an embedding"):
        adapters.from_torch({"first.weight": np.eye(3, dtype="float32")} | state(), activation="relu", order=order)


def test_odd_weights_are_told_what_came_and_what_to_do(unchecked):
    plain = state()
    rnn = adapters.from_torch(plain, activation="relu")
    big = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in plain.items()}
    jax.tree.map(np.testing.assert_array_equal, adapters.from_torch(big, activation="relu"), rnn)
    half = {name: array.astype(jnp.bfloat16) for name, array in plain.items()}
    assert adapters.from_torch(half, activation="relu").readout.kernel.dtype == jnp.bfloat16
    wide = {name: array.astype("float64") for name, array in plain.items()}
    assert adapters.from_torch(wide, activation="relu").readout.kernel.dtype == jnp.float64
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"weight_ih_l0.*float64 needs .*jax_enable_x64"):
        adapters.from_torch(wide, activation="relu")
    no_bias = {name: array for name, array in plain.items() if name != "rnn.bias_hh_l0"}
    for weights, error, message in [
        (no_bias, ValueError, r"rnn lacks \['bias_hh'\]"),
        (state(**{"rnn.weight_hh_l0_orig": np.ones((8, 8))}), ValueError, "weight_hh_l0_orig.*prune.remove"),
        (state(**{"rnn.weight_ih_l0_g": np.ones((8, 1))}), ValueError, "remove_weight_norm"),
        (state(**{"rnn.parametrizations.weight_hh_l0.original0": np.ones((8, 1))}), ValueError, "parametrize"),
        (state(**{"head.weight": np.ones((2, 8), jnp.float8_e4m3fn)}), TypeError, "head.weight must be .*float8"),
        (state(**{"head.weight": np.ones((2, 8), int)}), TypeError, "head.weight must be .*int64"),
        (state(**{"head.weight": np.full((2, 8), np.nan, "float32")}), ValueError, "head.weight must be finite"),
        (state(**{"rnn.weight_ih_l0_reverse": np.ones((8, 3))}), ValueError, "rnn is bidirectional"),
        (state(**{"rnn.weight_hr_l0": np.ones((2, 8))}), ValueError, "projections"),
        ({}, ValueError, "empty"),
    ]:
        with pytest.raises(error, match=message):
            adapters.from_torch(weights, activation="relu")


def test_to_torch_is_in_c_order(key, tmp_path):
    from safetensors.numpy import load_file, save_file

    rnn = jax.tree.map(np.asarray, network(key, 2, dtype="float32"))
    arrays = adapters.to_torch(rnn)
    assert all(array.flags.c_contiguous for array in arrays.values())
    save_file(arrays, tmp_path / "rnn.safetensors")
    again = adapters.from_torch(load_file(tmp_path / "rnn.safetensors"), activation="relu")
    jax.tree.map(np.testing.assert_array_equal, again, rnn)


@pytest.mark.parametrize("gates", [3, 4])
def test_a_state_dict_of_gates_is_a_cell(gates):
    random = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (8 * gates, 3), "weight_hh_l0": (8 * gates, 8), "weight_ih_l1": (8 * gates, 8)}
    shapes |= {"weight_hh_l1": (8 * gates, 8)}
    weights = {f"body.{name}": random.standard_normal(shape) for name, shape in shapes.items()}
    cell = maso_rnn.cell(weights | {"head.weight": random.standard_normal((2, 8))})
    assert maso_rnn.linearize(cell, XS.astype(float)).slope.shape == (2, 9, 3)
    names = "rzn" if gates == 3 else "ifgo"
    assert list(maso_rnn.recurrent_kernels(cell)) == [f"layer {l} {gate}" for l in (0, 1) for gate in names]
    with pytest.raises(ValueError, match=r"body .* is not piecewise affine; maso_rnn.cell"):
        adapters.from_torch(weights)
