"""One valid call of every public function, argument by argument: what bad input is made from.

The rows of this folder fix static options inside a closure; here every argument of the signature stands by its name,
so that each can be spoiled in turn. Optional arguments stand here too, with a value, where a value can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optax

import maso_rnn
import path_opt
import srnn
from maso_rnn import automata
from tests.contracts.automata import automaton
from tests.contracts.dynamics import _step, kernel
from tests.contracts.kernel_machine import bounded, field, start
from tests.contracts.kernel_machine import read as read_two
from tests.contracts.network import TIME, network, network_and_sequence
from tests.contracts.path_opt import GRAPH
from tests.contracts.path_opt import STEPS as PATH_STEPS
from tests.contracts.srnn import DT, STEPS, TIMES, _control, _made_kernel, _model, read

Arguments = dict[str, Any]
KEY = jax.random.key(1)
DTYPE = jnp.float64


def _network() -> Arguments:
    rnn, xs = network_and_sequence(KEY, DTYPE)
    return {"rnn": rnn, "xs": xs, "h0": tuple(h + 0.5 for h in rnn.initial), "length": TIME - 1}


def _codes() -> tuple[jax.Array, ...]:
    rnn, xs = network_and_sequence(KEY, DTYPE)
    return maso_rnn.trajectory(rnn, xs).codes


def _affine() -> Arguments:
    rnn, xs = network_and_sequence(KEY, DTYPE)
    return {"affine": maso_rnn.affine_map(rnn, xs), "xs": xs}


def _cell(h: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.tanh(0.5 * h + x.sum())


def _first_two(h: jax.Array) -> jax.Array:
    return h[:2]


def _around() -> Arguments:
    return {"step": _cell, "readout": _first_two, "h0": jnp.full(3, 0.1, DTYPE), "xs": _network()["xs"], "length": TIME}


def _line() -> Arguments:
    rest = _network()
    xs = rest.pop("xs")
    return rest | {"start": xs, "stop": -xs, "max_regions": 40}


def _plane() -> Arguments:
    rest = _network()
    xs = rest.pop("xs")
    return rest | {"origin": xs, "u": 0.1 * xs, "v": 0.1 * xs[::-1], "max_regions": 40}


def _walked() -> Arguments:
    line = _line() | {"h0": None}
    return {"rnn": line["rnn"], "walk": maso_rnn.walk_line(**line), "refresh_every": 8, "length": line["length"]}


def _dynamics() -> Arguments:
    return {"step": _step, "state": jnp.full(4, 0.1, DTYPE), "inputs": _network()["xs"]}


def _pulse() -> Arguments:
    rest = _dynamics()
    return rest | {"kernel": kernel(KEY, DTYPE), "amplitude": 0.5}


def _loss(z: jax.Array) -> jax.Array:
    return (z**2).sum()


def _params(**options: Any) -> Callable[[], Arguments]:
    return lambda: {"params": network(KEY, DTYPE), "graph": GRAPH} | options


def _scales() -> tuple[jax.Array, ...]:
    return tuple(jnp.linspace(-1.0, 1.0, width, dtype=DTYPE) for width in GRAPH.widths)


def _leaf_names() -> Arguments:
    params = {
        "cell": {"i": {"kernel": jnp.ones((1, 3)), "bias": jnp.ones(3)}, "h": {"kernel": jnp.eye(3)}},
        "state": jnp.ones(3),
        "head": {"kernel": jnp.ones((3, 2))},
    }
    return {
        "params": params,
        "layers": [maso_rnn.Layer("cell/i/kernel", "cell/h/kernel", "cell/i/bias")],
        "readout": maso_rnn.Readout("head/kernel"),
        "activation": "relu",
        "initial": ["state"],
        "tied": (),
        "skeleton": "modulo",
        "layout": None,
    }


def _driven(**options: Any) -> Callable[[], Arguments]:
    return lambda: (
        {
            "model": _model(KEY, DTYPE),
            "control": _control(KEY, DTYPE),
            "key": KEY,
            "paths": 4,
            "t1": STEPS * DT,
            "dt": DT,
            "initial": jnp.full(3, 0.1, DTYPE),
        }
        | options
    )


def _kernels() -> list[srnn.Kernel]:
    first, second = jax.random.split(KEY)
    return [
        _made_kernel(1, jax.random.normal(first, (STEPS, 2), DTYPE)),
        _made_kernel(2, jax.random.normal(second, (STEPS, STEPS, 2, 2), DTYPE)),
    ]


def _fading_kernel() -> srnn.Kernel:
    times = jnp.arange(8, dtype=DTYPE) * DT
    values = jnp.exp(-times[::-1, None] / 0.3)
    none = jnp.zeros((), DTYPE)
    return srnn.Kernel(times, values, 0.01 * values, times[::-1] + DT, none, jnp.asarray(0), jnp.zeros(2, DTYPE))


def _without(name: str, arguments: Arguments) -> Arguments:
    return {other: value for other, value in arguments.items() if other != name}


def _automaton(**options: Any) -> Callable[[], Arguments]:
    return lambda: {"automaton": automaton(KEY, DTYPE)} | options


def _blocks() -> automata.Hankel:
    every = automata.words(2, 2)
    return automata.hankel(automata.as_cell(automaton(KEY, DTYPE)), every, every, symbols=2)


def _of_products(time: int) -> tuple[jax.Array, jax.Array]:
    xs = jax.random.normal(jax.random.fold_in(KEY, time), (12, time, 2), DTYPE)
    return xs, xs.sum(axis=2).prod(axis=1)


def _expanded(**options: Any) -> Callable[[], Arguments]:
    return lambda: (
        {"field": field, "readout": read_two} | dict(zip(("h0", "x0"), start(KEY, DTYPE), strict=True)) | options
    )


def _times() -> jax.Array:
    return jnp.asarray(TIMES, DTYPE)


_SOLVER = {"solver": diffrax.Euler(), "increments": "gaussian"}
_NORM = {"num_steps": PATH_STEPS, "second_order": False, "normalize": True, "readout": "last", "refresh_every": 1}

ARGUMENTS: dict[str, Callable[[], Arguments]] = {
    "maso_rnn.activation": lambda: {"name_or_activation": "relu"},
    "maso_rnn.affine_map": lambda: _network() | {"step": -1},
    "maso_rnn.affine_maps": _network,
    "maso_rnn.affine_maps_along": _walked,
    "maso_rnn.all_fixed_points": lambda: {
        "rnn": maso_rnn.init(KEY, 2, [3], 1, dtype=DTYPE),
        "x": jnp.ones(2, DTYPE),
        "period": 1,
        "max_codes": 2**6,
        "max_points": 100,
        "prune": True,
        "progress": False,
    },
    "maso_rnn.automata.as_cell": _automaton(),
    "maso_rnn.automata.distance": _automaton(source=sum, held_out=[(0, 1), (1,)]),
    "maso_rnn.automata.extract": lambda: {
        "cell": automata.as_cell(automaton(KEY, DTYPE)),
        "longest": 2,
        "rank": 3,
        "tolerance": 1e-9,
        "symbols": 2,
    },
    "maso_rnn.automata.from_cell": lambda: {"cell": automata.as_cell(automaton(KEY, DTYPE)), "symbols": 2},
    "maso_rnn.automata.hankel": lambda: {
        "source": sum,
        "prefixes": [(), (0,), (1,)],
        "suffixes": [(), (1,)],
        "symbols": 2,
    },
    "maso_rnn.automata.hankel_of_sequences": lambda: {
        "short": _of_products(1),
        "double": _of_products(2),
        "longer": _of_products(3),
        "rank": 1,
    },
    "maso_rnn.automata.spectral_learning": lambda: {"blocks": _blocks(), "rank": 3, "tolerance": 1e-9},
    "maso_rnn.automata.state_graph": lambda: {
        "automaton": automata.WeightedAutomaton(jnp.ones(1, DTYPE), jnp.ones((2, 1, 1), DTYPE), jnp.ones(1, DTYPE)),
        "tolerance": 1e-6,
        "max_states": 8,
    },
    "maso_rnn.automata.value": _automaton(word=jnp.array([0, 1, 1]), length=2),
    "maso_rnn.automata.words": lambda: {"symbols": 2, "longest": 3},
    "maso_rnn.boundary_distance": _network,
    "maso_rnn.cell": lambda: {"network": network(KEY, DTYPE), "order": None, "activation": None},
    "maso_rnn.certified_radius": lambda: (
        _network() | {"label": 1, "norm": "linf", "moves": jnp.ones(TIME, bool), "tries": 3}
    ),
    "maso_rnn.cornn": lambda: {
        "key": KEY,
        "input_size": 2,
        "hidden_size": 3,
        "output_size": 1,
        "dt": 0.1,
        "gamma": 1.0,
        "epsilon": 0.5,
        "dtype": DTYPE,
    },
    "maso_rnn.cornn_bounds": lambda: {
        "cell": maso_rnn.cornn(KEY, 2, 3, 1, dt=0.1, gamma=1.0, epsilon=0.5, dtype=DTYPE),
        "steps": 5,
        "largest_input": 2.0,
        "slope": 1.0,
    },
    "maso_rnn.count_regions": lambda: {
        "codes": tuple(jnp.stack([code, ~code, code]) for code in _codes()),
        "lengths": None,
    },
    "maso_rnn.cycles": lambda: {
        "step": _step,
        "starts": jnp.full((2, 4), 0.1, DTYPE),
        "x": jnp.zeros(2, DTYPE),
        "period": 2,
        "max_steps": 5,
        "distance": 1e-3,
        "progress": False,
    },
    "maso_rnn.decision_boundary": lambda: {"plane": maso_rnn.partition_plane(**_plane())},
    "maso_rnn.decisions": lambda: {"walk": maso_rnn.walk_line(**_line())},
    "maso_rnn.doubtful_codes": _network,
    "maso_rnn.eigen": lambda: {
        "radius": 0.9,
        "basis": "schur",
        "max_phase": jnp.pi,
        "base": jax.nn.initializers.glorot_normal(),
    },
    "maso_rnn.entropy_bound": lambda: {"exponents": jnp.asarray([0.5, 0.2, -1.0], DTYPE)},
    "maso_rnn.fixed_points_along": lambda: {
        "step": _step,
        "starts": jnp.full((2, 4), 0.1, DTYPE),
        "start": jnp.zeros(2, DTYPE),
        "stop": jnp.ones(2, DTYPE),
        "count": 2,
    },
    "maso_rnn.fixed_points": lambda: {
        "step": _step,
        "starts": jnp.full((2, 4), 0.1, DTYPE),
        "x": jnp.zeros(2, DTYPE),
        "max_steps": 5,
        "tolerance": 1e-10,
        "distance": 1e-3,
        "outlier_scale": 10.0,
        "progress": False,
    },
    "maso_rnn.forward": _network,
    "maso_rnn.hamming": lambda: {"codes_a": _codes(), "codes_b": tuple(~code for code in _codes())},
    "maso_rnn.init": lambda: {
        "key": KEY,
        "input_size": 2,
        "hidden_sizes": [5, 4],
        "output_size": 3,
        "activation": "relu",
        "input_init": jax.nn.initializers.lecun_normal(),
        "recurrent_init": jax.nn.initializers.orthogonal(),
        "bias_init": jax.nn.initializers.zeros,
        "readout_init": jax.nn.initializers.lecun_normal(),
        "dtype": DTYPE,
    },
    "maso_rnn.initial_state": lambda: {name: value for name, value in _network().items() if name in ("rnn", "h0")},
    "maso_rnn.integrated_gradients": lambda: _network() | {"baseline": -_network()["xs"], "max_regions": 40},
    "maso_rnn.integrated_gradients_by_quadrature": lambda: {
        "cell": maso_rnn.cell(network(KEY, DTYPE)),
        "xs": _network()["xs"],
        "baseline": -_network()["xs"],
        "h0": _network()["h0"],
        "tolerance": 1e-3,
        "max_intervals": 8,
        "length": TIME - 1,
    },
    "maso_rnn.integrated_gradients_on_device": lambda: _network() | {"baseline": -_network()["xs"], "max_regions": 40},
    "maso_rnn.jacobian_spectra": _dynamics,
    "maso_rnn.kaplan_yorke_dimension": lambda: {"exponents": jnp.asarray([0.5, 0.2, -1.0], DTYPE)},
    "maso_rnn.last_output": _network,
    "maso_rnn.leaky_relu": lambda: {"slope": 0.5},
    "maso_rnn.linearization_error": lambda: {"linearization": maso_rnn.linearize(**_around())} | _around(),
    "maso_rnn.linearize": _around,
    "maso_rnn.lyapunov_exponents": lambda: _dynamics() | {"warmup": 1, "dt": 0.5, "count": 2},
    "maso_rnn.match": _affine,
    "maso_rnn.modal_coordinates": lambda: {"states": jnp.ones((3, 4), DTYPE), "kernel": kernel(KEY, DTYPE)},
    "maso_rnn.nearest_change": lambda: (
        _network() | {"label": 1, "norm": "l2", "moves": jnp.ones(TIME, bool), "max_projections": 4}
    ),
    "maso_rnn.noise_penalty": lambda: _network() | {"scale": jnp.asarray(0.5, DTYPE), "loss": _loss},
    "maso_rnn.np_rnn": dict,
    "maso_rnn.output_bounds": lambda: _network() | {"radius": 0.1, "norm": "l2", "moves": jnp.ones(TIME, bool)},
    "maso_rnn.pack": lambda: {"codes": _codes()},
    "maso_rnn.parallel_forward": lambda: _without("length", _network()) | {"max_iterations": TIME + 2},
    "maso_rnn.partition_plane": _plane,
    "maso_rnn.per_gate": lambda: {"init": maso_rnn.np_rnn(), "gates": 3, "axis": -1},
    "maso_rnn.pulse_decay": _pulse,
    "maso_rnn.random_initial_state": lambda: {
        "key": KEY,
        "carry": (jnp.ones(3, DTYPE), jnp.ones((2, 2), DTYPE)),
        "scale": jnp.asarray(0.5, DTYPE),
    },
    "maso_rnn.recurrent_kernels": lambda: {"cell": network(KEY, DTYPE)},
    "maso_rnn.sample_states": lambda: {
        "key": KEY,
        "trajectories": jax.random.normal(KEY, (3, 5, 4), DTYPE),
        "count": 4,
        "noise": 0.1,
        "mask": jnp.ones((3, 5), bool),
    },
    "maso_rnn.spectra": lambda: {"cell": network(KEY, DTYPE), "steps": 5},
    "maso_rnn.spectral_radius": lambda: {"base": jax.nn.initializers.glorot_normal(), "radius": 0.9},
    "maso_rnn.spectrum": lambda: {"kernel": kernel(KEY, DTYPE), "steps": 5},
    "maso_rnn.spectrum_table": lambda: {"found": maso_rnn.spectra(network(KEY, DTYPE), steps=5)},
    "maso_rnn.template_margin": lambda: _affine() | {"label": 1},
    "maso_rnn.trajectory": _network,
    "maso_rnn.unpack": lambda: {"packed": maso_rnn.pack(_codes()), "rnn": network(KEY, DTYPE)},
    "maso_rnn.walk_line": _line,
    "maso_rnn.walk_line_on_device": _line,
    "path_opt.balance": _params(),
    "path_opt.condition": _params(num_steps=PATH_STEPS, readout="last"),
    "path_opt.equivariant_adam": lambda: {"learning_rate": 0.1, "graph": GRAPH, "clip": 1.0},
    "path_opt.from_path_values": lambda: {
        "path_values": path_opt.path_values(network(KEY, DTYPE), GRAPH),
        "graph": GRAPH,
    },
    "path_opt.in_path_space": lambda: {"inner": optax.sgd(0.1), "graph": GRAPH},
    "path_opt.path_norm": _params(num_steps=PATH_STEPS, log=False, readout="last"),
    "path_opt.path_sgd": lambda: {"learning_rate": 0.1, "graph": GRAPH, "clip": 1.0} | _NORM,
    "path_opt.path_space_adam": lambda: {"learning_rate": 0.1, "graph": GRAPH, "clip": 1.0},
    "path_opt.path_space_sgd": lambda: {"learning_rate": 0.1, "graph": GRAPH, "momentum": 0.9, "clip": 1.0},
    "path_opt.path_values": _params(),
    "path_opt.reduction_graph": lambda: {"rnn": network(KEY, DTYPE), "activation": None, "skeleton": "modulo"},
    "path_opt.reduction_graph_from_paths": _leaf_names,
    "path_opt.rescale": lambda: _params()() | {"log_scales": _scales()},
    "path_opt.scale_by_path_norm": lambda: {"graph": GRAPH} | _NORM,
    "path_opt.set_skeleton": _params(how="rescale"),
    "path_opt.summary": lambda: {"state": path_opt.equivariant_adam(0.1, graph=GRAPH).init(network(KEY, DTYPE))},
    "srnn.drift": lambda: {"model": _model(KEY, DTYPE), "state": jnp.ones((2, 3), DTYPE)},
    "srnn.expansion_bound": lambda: (
        dict(zip(("recurrent_kernel", "input_kernel", "path"), bounded(KEY, DTYPE), strict=True)) | {"order": 2}
    ),
    "srnn.fluctuation_dissipation": lambda: (
        _without("control", _driven()()) | {"readout": read, "burn_in": DT, "steps": (0, 3), "compare": False}
    ),
    "srnn.from_rate_network": lambda: {
        "recurrent_kernel": 0.5 * jnp.eye(3, dtype=DTYPE),
        "input_kernel": jnp.ones((2, 3), DTYPE),
        "bias": jnp.zeros(3, DTYPE),
        "time_constant": 1.0,
        "noise": 0.1,
        "activation": "tanh",
    },
    "srnn.init": lambda: {
        "key": KEY,
        "input_size": 2,
        "hidden_size": 3,
        "noise_size": 2,
        "radius": 0.5,
        "decay_time": 2.0,
        "noise": 0.5,
        "activation": "tanh",
        "dtype": DTYPE,
    },
    "srnn.kernel_norm": _expanded(order=2, variation=0.5),
    "srnn.memory_timescales": lambda: {"kernel": _fading_kernel(), "components": 1},
    "srnn.response_coefficients": lambda: {"kernels": _kernels(), "times": _times(), "order": 1},
    "srnn.response_feature": lambda: {"control": _control(KEY, DTYPE), "times": _times(), "order": 1, "depth": 2},
    "srnn.response_gram": lambda: {
        "controls_a": _control(KEY, DTYPE, 3),
        "controls_b": _control(KEY, DTYPE, 2),
        "times": _times(),
        "normalize": False,
    },
    "srnn.response_kernel": _driven(
        readout=read, order=1, steps=(0, 3), method="adjoint", burn_in=DT, compare=False, **_SOLVER
    ),
    "srnn.signature": lambda: {"path": jax.random.normal(KEY, (5, 2), DTYPE), "depth": 3},
    "srnn.signature_coefficients": _expanded(order=2),
    "srnn.simulate": _driven(save_steps=(2, STEPS), readout=read, sharding=None, check_step=False, **_SOLVER),
    "srnn.truncation_bound": lambda: {
        "model": _model(KEY, DTYPE),
        "control": _control(KEY, DTYPE),
        "dt": DT,
        "order": 2,
        "readout_sd": 1.5,
    },
    "srnn.volterra": lambda: {"kernels": _kernels(), "control": _control(KEY, DTYPE), "dt": DT},
    "srnn.volterra_terms": _driven(readout=read, max_order=2, burn_in=DT, compare=False, **_SOLVER),
}
