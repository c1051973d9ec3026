"""Modules of PyTorch, run to see their wiring: the same outputs, or a refusal that names the layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import adapters
from tests.test_adapters import CLOSE, TOKENS, XS, assert_last_output

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.slow  # needs PyTorch


class Model(nn.Module):
    """What people stack around a recurrent layer; a stray cell that is not part of it beside it."""

    def __init__(self, kind="RNN", **options):
        super().__init__()
        torch.manual_seed(0)
        own = {"nonlinearity": "relu"} if kind == "RNN" else {}
        self.options = {"once": True, "batch_first": True, "function": nn.functional.relu} | options
        self.embedding = nn.Embedding(4, 3) if options.get("embeds") else nn.Identity()
        self.encoder = nn.Linear(3, 5)
        self.rnn = getattr(nn, kind)(
            5, 7, batch_first=self.options["batch_first"], bidirectional=options.get("bidirectional", False), **own
        )
        self.stray = nn.RNNCell(3, 4)
        self.second = getattr(nn, kind)(
            14 if options.get("bidirectional") else 7, 6, batch_first=self.options["batch_first"], **own
        )
        self.norm = options.get("norm", nn.Identity)(6) if "norm" in options else nn.Identity()
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
        self.h0 = nn.Parameter(torch.randn(1, 1, 7)) if options.get("learned") else None
        self.loss = nn.CrossEntropyLoss()
        if isinstance(self.norm, nn.BatchNorm1d):
            nn.init.uniform_(self.norm.running_mean, -1, 1)
            nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, xs):
        xs = self.options["function"](self.encoder(self.embedding(xs)))
        batch = xs.shape[0 if self.options["batch_first"] else 1]
        if self.h0 is None:
            xs, _ = self.rnn(xs)
        else:
            xs, _ = self.rnn(xs, self.h0.expand(1, batch, 7).contiguous())
        xs, _ = self.second(self.dropout(xs))
        if self.options["once"]:
            xs = xs[:, -1] if self.options["batch_first"] else xs[-1]
        return self.head(self.norm(xs))


def run(model, xs):
    with torch.no_grad():
        given = torch.from_numpy(np.array(xs))
        is_first = getattr(model, "options", {"batch_first": True})["batch_first"]
        return model(given[None] if is_first else given[:, None]).numpy()


MODELS = {
    "plain": ({}, True),
    "every step": ({"once": False}, True),
    "time first": ({"batch_first": False}, True),
    "batch norm": ({"norm": nn.BatchNorm1d}, True),
    "a learned state": ({"learned": True}, True),
    "embedding": ({"embeds": True}, True),
    "no function": ({"function": lambda xs: xs}, True),
    "layer norm": ({"norm": nn.LayerNorm}, r"norm \(LayerNorm\)"),
    "RMS norm": ({"norm": nn.RMSNorm}, r"norm \(LayerNorm\)"),
    "tanh": ({"function": torch.tanh}, "tanh in tanh after encoder, relu in rnn"),
    "GRU": ({"kind": "GRU"}, r"rnn \(GRU\)"),
    "LSTM": ({"kind": "LSTM", "norm": nn.LayerNorm}, r"rnn \(LSTM\)"),
    "GRU of tokens": ({"kind": "GRU", "embeds": True}, r"rnn \(GRU\)"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_composed_or_refused_by_name_and_always_a_cell(name, unchecked):
    options, has_pieces = MODELS[name]
    model = Model(**options).eval()
    xs = TOKENS if options.get("embeds") else XS
    wanted = run(model, xs)
    assert_last_output(maso_rnn.cell(model), wanted, xs)
    if has_pieces is True:
        assert_last_output(adapters.from_torch(model), wanted, xs)
    else:
        with pytest.raises(ValueError, match=has_pieces):
            adapters.from_torch(model)


def test_a_trained_model_keeps_its_outputs():
    model, random = Model(norm=nn.BatchNorm1d), np.random.default_rng(0)
    xs = torch.from_numpy(random.standard_normal((32, 6, 3)).astype("float32"))
    labels = (xs.sum((1, 2)) > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(xs), labels).backward()
        optimizer.step()
    with pytest.raises(ValueError, match="in training mode"):
        adapters.from_torch(model)
    model.eval()
    rnn = adapters.from_torch(model)
    got = jax.vmap(maso_rnn.last_output, (None, 0))(rnn, jnp.asarray(xs.numpy()))
    np.testing.assert_allclose(got, model(xs).detach().numpy(), **CLOSE)


def test_what_stands_before_or_behind_is_never_dropped():
    """A norm, a function of the encoder, an MLP head: each once gave another network in silence."""
    torch.manual_seed(0)
    rnn = nn.RNN(3, 7, nonlinearity="relu", batch_first=True)

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.norm, self.fc, self.cell = rnn, nn.LayerNorm(7), nn.Linear(7, 2), nn.RNNCell(3, 7)

        def forward(self, xs):
            return self.fc(self.norm(self.rnn(xs)[0]))

    with pytest.raises(ValueError, match=r"norm \(LayerNorm\)"):
        adapters.from_torch(Normed())
    weights = {name: value for name, value in Normed().state_dict().items() if not name.startswith("cell")}
    with pytest.raises(ValueError, match=r"order must be given.*norm"):
        adapters.from_torch(weights, activation="relu")

    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = rnn, nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))

        def forward(self, xs):
            return self.fc(self.rnn(xs)[0])

    model = Headed()
    order = ("rnn", "fc.0", "relu", "fc.2")
    for read in (adapters.from_torch(model), adapters.from_torch(model.state_dict(), order=order, activation="relu")):
        assert read.readout.kernel.shape == (5, 3)
        np.testing.assert_allclose(maso_rnn.forward(read, XS), run(model, XS)[0], **CLOSE)
    with pytest.raises(ValueError, match="order must be given"):
        adapters.from_torch(model.state_dict(), activation="relu")


class Behind(nn.Module):
    """What is done to the outputs is a function of the caller's."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.fc = nn.RNN(3, 7, nonlinearity="relu", batch_first=True), nn.Linear(7, 2)
        self.scale, self.function = nn.Parameter(torch.tensor([2.0, 3.0])), function

    def forward(self, xs):
        return self.function(self, self.fc(self.rnn(xs)[0]))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda model, z: z.mean(1), "something else"),
        (lambda model, z: z.cumsum(1), "something else"),
        (lambda model, z: z * model.scale, r"\['scale'\] are in none of them"),
        (lambda model, z: torch.softmax(z, 1), "something else"),
        (lambda model, z: z[:, 2], "something else"),
    ],
    ids=["pooled", "summed", "scaled", "softmax over time", "in the middle"],
)
def test_what_is_done_to_the_outputs_is_never_dropped(function, message, unchecked):
    with pytest.raises(ValueError, match=message):
        maso_rnn.cell(Behind(function))


def test_a_head_that_is_read_once_is_seen_to_be():
    assert adapters.from_torch(Model().eval()).read_once
    assert not adapters.from_torch(Model(once=False).eval()).read_once
    assert not adapters.from_torch(Behind(lambda model, z: z[:, -1])).read_once  # a linear readout has no walls


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.left, self.right = nn.GRU(3, 7, batch_first=True), nn.Linear(7, 2), nn.Linear(7, 2)

    def forward(self, xs):
        h = self.rnn(xs)[0]
        return self.left(h), torch.log_softmax(self.right(h), -1)


def test_one_of_two_heads_is_taken_by_its_order():
    torch.manual_seed(0)
    model = TwoHeads()
    with pytest.raises(ValueError, match="right is not given what left returns"):
        maso_rnn.cell(model)
    cell = maso_rnn.cell(model, order=("rnn", "right"))
    assert_last_output(cell, model.right(model.rnn(torch.from_numpy(np.array(XS))[None])[0]).detach())
    with pytest.raises(ValueError, match=r"lacks \['left'\]"):
        maso_rnn.cell(model.state_dict(), order=("rnn", "right"))


def test_cells_in_loops_are_layers():
    class Loop(nn.Module):
        def __init__(self, kind):
            super().__init__()
            torch.manual_seed(0)
            options = {"nonlinearity": "relu"} if kind is nn.RNNCell else {}
            self.first, self.second, self.head = kind(3, 7, **options), kind(7, 4, **options), nn.Linear(4, 2)

        def forward(self, xs):
            h = k = None
            for t in range(xs.shape[1]):
                h = self.first(xs[:, t], h)
                k = self.second(h[0] if isinstance(h, tuple) else h, k)
            return self.head(k[0] if isinstance(k, tuple) else k)

    for kind in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
        assert_last_output(maso_rnn.cell(Loop(kind)), run(Loop(kind), XS))
    assert_last_output(adapters.from_torch(Loop(nn.RNNCell)), run(Loop(nn.RNNCell), XS))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bias": False}])
def test_recurrent_layers_alone_are_cells_and_their_slopes_are_theirs(kind, options):
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 7, **options)
    linear = maso_rnn.linearize(maso_rnn.cell(layer), XS)
    xs = torch.from_numpy(np.array(XS))
    np.testing.assert_allclose(linear.output, layer(xs)[0][-1].detach(), **CLOSE)
    slope = torch.autograd.functional.jacobian(lambda xs: layer(xs)[0][-1], xs)
    np.testing.assert_allclose(linear.slope, slope.numpy(), **CLOSE)
    count = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind] * options.get("num_layers", 1)
    kernels = maso_rnn.recurrent_kernels(layer)
    assert len(kernels) == count
    np.testing.assert_array_equal(next(iter(kernels.values())), layer.weight_hh_l0.detach()[:7].T)


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_a_cell_alone_makes_its_own_step(kind):
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 7)
    cell = maso_rnn.cell(module)
    (carry,), state = cell(cell.initial, XS[0]), module(torch.from_numpy(np.array(XS[:1])))
    for ours, theirs in zip(jax.tree.leaves(carry), state if isinstance(state, tuple) else (state,), strict=True):
        np.testing.assert_allclose(ours, theirs[0].detach(), **CLOSE)


def test_reparametrised_and_pruned_modules_are_read_as_they_compute():
    from torch.nn.utils import parametrizations, prune

    torch.manual_seed(0)
    for change in (
        lambda model: parametrizations.weight_norm(model.encoder),
        lambda model: parametrizations.orthogonal(model.head[0]),
        lambda model: prune.l1_unstructured(model.encoder, "weight", 0.5),
    ):
        model = Model().eval()
        change(model)
        assert_last_output(adapters.from_torch(model), run(model, XS))
        with pytest.raises(ValueError, match=r"weights hold .*plain"):
            adapters.from_torch(model.state_dict(), activation="relu")


def test_half_and_double_precision_are_kept():
    double, half = Model().double().eval(), Model().bfloat16().eval()
    assert adapters.from_torch(double).readout.kernel.dtype == jnp.float64
    assert maso_rnn.cell(half).params[0].kernel.dtype == jnp.bfloat16
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        adapters.from_torch(double)


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_to_torch_and_back(tmp_path, nonlinearity):
    from safetensors.numpy import load_file
    from safetensors.torch import save_file

    torch.manual_seed(0)
    modules = nn.ModuleDict({"body": nn.RNN(3, 7, 2, nonlinearity=nonlinearity), "head": nn.Linear(7, 2)})
    save_file(modules.state_dict(), tmp_path / "m.safetensors")
    for given in (modules, modules.state_dict(), load_file(tmp_path / "m.safetensors")):
        own = {} if given is modules else {"activation": nonlinearity}
        rnn = adapters.from_torch(given, **own)
        arrays = adapters.to_torch(rnn, layers="body", readout="head")
        again = nn.ModuleDict({"body": nn.RNN(3, 7, 2, nonlinearity=nonlinearity), "head": nn.Linear(7, 2)})
        again.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        wanted = again["head"](again["body"](torch.from_numpy(np.array(XS)))[0])
        np.testing.assert_allclose(maso_rnn.forward(rnn, XS), wanted.detach(), **CLOSE)


@pytest.mark.filterwarnings("ignore:.*quantiz")  # PyTorch's own, of what people have all the same
def test_a_quantised_network_is_refused_by_name():
    model = nn.Sequential(nn.LSTM(3, 7), nn.Linear(7, 2)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    with pytest.raises(TypeError, match=r"\[0\] \(LSTM\) is quantised"):
        maso_rnn.cell(quantised)


def test_what_no_network_here_is_is_refused_by_name(unchecked):
    torch.manual_seed(0)
    head = nn.Linear(7, 2)
    for modules, error, message in [
        ([nn.RNN(3, 7, bidirectional=True), head], ValueError, r"\[0\] \(RNN\) is bidirectional"),
        ([nn.LSTM(3, 7, proj_size=2), head], ValueError, "projections"),
        ([nn.RNN(3, 7, 2, dropout=0.5), head], ValueError, "in training mode"),
        ([nn.RNN(3, 7), nn.Dropout(0.5), head], ValueError, "in training mode"),
        ([nn.RNN(3, 7), nn.Conv1d(7, 7, 3), head], TypeError, r"\[1\] \(Conv1d\) is not known"),
        ([nn.RNN(3, 7), nn.PReLU(7), head], ValueError, r"\[1\] \(PReLU\)"),
        ([nn.RNN(3, 7), nn.BatchNorm1d(7, track_running_stats=False).eval(), head], ValueError, "running statistics"),
        ([nn.Embedding(4, 3, max_norm=1.0), nn.RNN(3, 7), head], ValueError, "max_norm"),
    ]:
        with pytest.raises(error, match=message):
            adapters.from_torch(modules)
    with pytest.raises(ValueError, match=r"rnn .* is bidirectional"):
        maso_rnn.cell(Model(bidirectional=True).eval())
    with pytest.raises(ValueError, match="meta device"):
        adapters.from_torch(nn.RNN(3, 7, device="meta"))
    with pytest.raises(TypeError, match="got the class Model"):
        adapters.from_torch(Model)
    names = [
        nn.RNN(3, 7, nonlinearity="relu"),
        torch.relu,
        nn.Linear(7, 2),
    ]  # PyTorch's functions are those of that name
    assert adapters.from_torch(names).activation == maso_rnn.relu

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 3, batch_first=True, bidirectional=True), nn.Linear(6, 2)

        def forward(self, xs):
            return self.head(self.rnn(xs)[0])

    with pytest.raises(ValueError, match=r"rnn \(GRU\) is bidirectional"):
        maso_rnn.cell(Both())

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, xs):
            return self.head(self.rnn(xs)[0] + xs)

    with pytest.raises(ValueError, match="head is not given what rnn returns"):
        maso_rnn.cell(Residual())

    class Convolved(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.rnn = nn.Conv1d(3, 4, 3, padding=1), nn.GRU(4, 3, batch_first=True)

        def forward(self, xs):
            return self.rnn(self.conv(xs.transpose(1, 2)).transpose(1, 2))[0]

    with pytest.raises(ValueError, match=r"conv \(Conv1d\)"):
        maso_rnn.cell(Convolved())

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, xs):
            return self.head(self.rnn(xs)[0].mean(1))

    with pytest.raises(ValueError, match="something else than its modules"):
        maso_rnn.cell(Pooled())
