"""Layers and models of Keras: the same outputs, or a refusal that names the layer."""

import os

import numpy as np
import pytest

import maso_rnn
from tests.test_adapters import TOKENS, XS, assert_last_output

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
layers = keras.layers

pytestmark = [
    pytest.mark.slow,  # needs Keras
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),  # its own
]


def model(*stack, tokens=False):
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((None,), dtype="int32") if tokens else keras.Input((None, 3)), *stack])
    for layer in made.layers:  # statistics and biases that are not those of the start
        random = np.random.default_rng(1)
        layer.set_weights([np.abs(array) + random.uniform(0, 0.3, array.shape) for array in layer.get_weights()])
    return made


MODELS = {
    "SimpleRNN": lambda: model(layers.SimpleRNN(5, return_sequences=True), layers.SimpleRNN(4), layers.Dense(2)),
    "GRU": lambda: model(layers.Dense(4, "relu"), layers.GRU(5), layers.Dense(4, "gelu"), layers.Dense(2)),
    "GRU, reset before": lambda: model(layers.GRU(5, reset_after=False), layers.Dense(2)),
    "no bias": lambda: model(layers.LSTM(5, use_bias=False), layers.Dense(2, use_bias=False)),
    "LSTM": lambda: model(layers.LSTM(5), layers.LayerNormalization(), layers.Dropout(0.5), layers.Dense(2)),
    "batch norm": lambda: model(layers.LSTM(5), layers.BatchNormalization(), layers.ReLU(), layers.Dense(2)),
    "wrapped cells": lambda: model(layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)]), layers.Dense(2)),
    "at every step": lambda: model(layers.LSTM(5, return_sequences=True), layers.TimeDistributed(layers.Dense(2))),
    "embedding": lambda: model(layers.Embedding(4, 3), layers.GRU(5), layers.Dense(2), tokens=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_a_cell_with_its_outputs(name, unchecked):
    made = MODELS[name]()
    xs = TOKENS if name == "embedding" else XS
    assert_last_output(maso_rnn.cell(made), np.asarray(made(np.asarray(xs)[None])), xs)


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_a_layer_alone_is_a_cell_and_has_its_kernels(kind):
    keras.utils.set_random_seed(0)
    layer = getattr(layers, kind)(5, return_sequences=True)
    wanted = np.asarray(layer(np.asarray(XS)[None]))
    assert_last_output(maso_rnn.cell(layer), wanted)
    gates = {"SimpleRNN": "h", "GRU": "zrn", "LSTM": "ifgo"}[kind]
    found = maso_rnn.recurrent_kernels(layer)
    for gate, kernel in zip(gates, np.split(layer.get_weights()[1], len(gates), axis=1), strict=True):
        np.testing.assert_array_equal(found[gate], kernel)


def test_a_trained_model_keeps_its_outputs(unchecked):
    """Embedding, encoder, two RNNs, both norms, dropout, MLP head."""
    stack = [layers.Embedding(4, 3), layers.Dense(4, "relu"), layers.LSTM(5, return_sequences=True)]
    stack += [layers.BatchNormalization(momentum=0.5), layers.Dropout(0.3), layers.SimpleRNN(4, activation="relu")]
    made = model(*stack, layers.LayerNormalization(), layers.Dense(4, "tanh"), layers.Dense(2), tokens=True)
    made.compile(keras.optimizers.SGD(0.1), "mse")
    random, before = np.random.default_rng(0), made.get_weights()
    xs = random.integers(0, 4, (8, 6))
    for _ in range(3):
        made.train_on_batch(xs, random.standard_normal((8, 2)))
    assert all((new != old).any() for new, old in zip(made.get_weights(), before, strict=True))
    assert_last_output(maso_rnn.cell(made), np.asarray(made(xs[:1], training=False)), xs[0])


def test_what_no_network_here_is_is_refused_by_name(unchecked):
    for stack, error, message in [
        ([layers.Bidirectional(layers.GRU(5), name="both"), layers.Dense(2)], ValueError, r"both \(Bidirectional\)"),
        ([layers.GRU(5, go_backwards=True, name="back"), layers.Dense(2)], ValueError, r"back \(GRU\) goes backwards"),
        ([layers.RNN(layers.GRUCell(5), go_backwards=True, name="back")], ValueError, r"back \(RNN\) goes backwards"),
        ([layers.Conv1D(3, 2, name="conv"), layers.GRU(5)], TypeError, r"conv \(Conv1D\) is not known"),
    ]:
        with pytest.raises(error, match=message):
            maso_rnn.cell(model(*stack))
    with pytest.raises(ValueError, match="has no weights yet"):
        maso_rnn.cell(keras.Sequential([layers.GRU(5), layers.Dense(2)]))
    stateful = layers.GRU(5, stateful=True)
    stateful.build((2, 7, 3))
    with pytest.raises(ValueError, match="keeps its state from batch to batch"):
        maso_rnn.cell([stateful])
    inputs = keras.Input((None, 3))
    states = layers.GRU(3, return_sequences=True)(inputs)
    residual = keras.Model(inputs, layers.Dense(2)(layers.Add()([states, inputs])))
    with pytest.raises(TypeError, match=r"\(Add\) is not known"):
        maso_rnn.cell(residual)
    pooled = keras.Model(inputs, layers.Dense(2)(keras.ops.mean(states, axis=1)))
    with pytest.raises((TypeError, ValueError)):
        maso_rnn.cell(pooled)
