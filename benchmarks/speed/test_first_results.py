"""How long each public function takes to its first result, compiling included, and to the next.

All caches of JAX are emptied before each, so that what one has compiled is not there for the next.
"""

import inspect
import time

import jax
import jax.numpy as jnp
import optax

import maso_rnn
import path_opt
import srnn

TIME, HIDDEN, STEPS, PATHS, DT = 100, 128, 200, 256, 0.05
RUN = {"t1": STEPS * DT, "dt": DT, "paths": PATHS, "key": jax.random.key(4)}
KEY = jax.random.key(0)


def cell(h, x):
    return jnp.tanh(x + 0.5 * h)


def read(h):
    return jnp.tanh(h[0])


def first_two(h):
    return h[:2]


def cross_entropy(z):
    return jax.nn.logsumexp(z) - z[0]


def spline():
    """Calls of `maso_rnn`'s functions."""
    rnn = maso_rnn.init(KEY, 1, [HIDDEN], 10, bias_init=jax.nn.initializers.normal(0.1))
    small = maso_rnn.init(KEY, 1, [16], 10, bias_init=jax.nn.initializers.normal(0.1))
    start, stop = jax.random.normal(jax.random.key(1), (2, TIME, 1))
    batch = jax.random.normal(jax.random.key(2), (256, TIME, 1))
    kernel, states = rnn.layers[0].recurrent_kernel, jax.random.normal(KEY, (TIME, HIDDEN))
    codes = maso_rnn.trajectory(rnn, start).codes
    many = jax.vmap(lambda xs: maso_rnn.trajectory(rnn, xs).codes)(batch)
    packed, found, u = maso_rnn.pack(codes), maso_rnn.spectrum(kernel), start[::-1]
    affine, walk = maso_rnn.affine_map(rnn, start), maso_rnn.walk_line(rnn, start, stop, max_regions=20_000)
    linear, h0 = maso_rnn.linearize(cell, first_two, jnp.zeros(HIDDEN), start), jnp.zeros(HIDDEN)
    tiny, gated, exponents = maso_rnn.init(KEY, 1, [6], 3), maso_rnn.cell(small), jnp.array([0.1, -0.2, -0.4])
    plane = maso_rnn.partition_plane(small, start, 0.1 * u, 0.1 * stop, max_regions=20_000)
    draw = (KEY, (HIDDEN, HIDDEN), "float32")
    return {
        "activation": lambda: maso_rnn.activation("relu"),
        "affine_map": lambda: maso_rnn.affine_map(rnn, start),
        "affine_maps": lambda: maso_rnn.affine_maps(rnn, start),
        "affine_maps_along": lambda: maso_rnn.affine_maps_along(rnn, walk),
        "all_fixed_points": lambda: maso_rnn.all_fixed_points(tiny, jnp.zeros(1), progress=False),
        "boundary_distance": lambda: maso_rnn.boundary_distance(rnn, start),
        "cell": lambda: maso_rnn.cell(rnn),
        "count_regions": lambda: maso_rnn.count_regions(many),
        "cycles": lambda: maso_rnn.cycles(cell, states, jnp.zeros(1), period=2),
        "decision_boundary": lambda: maso_rnn.decision_boundary(plane),
        "decisions": lambda: maso_rnn.decisions(walk),
        "doubtful_codes": lambda: maso_rnn.doubtful_codes(rnn, start),
        "eigen": lambda: maso_rnn.eigen()(*draw),
        "entropy_bound": lambda: maso_rnn.entropy_bound(exponents),
        "fixed_points": lambda: maso_rnn.fixed_points(cell, states, jnp.zeros(1)),
        "fixed_points_along": lambda: maso_rnn.fixed_points_along(cell, states[:8], jnp.zeros(1), jnp.ones(1), count=5),
        "forward": lambda: maso_rnn.forward(rnn, start),
        "hamming": lambda: maso_rnn.hamming(codes, codes),
        "init": lambda: maso_rnn.init(KEY, 1, [HIDDEN], 10),
        "initial_state": lambda: maso_rnn.initial_state(rnn),
        "integrated_gradients": lambda: maso_rnn.integrated_gradients(small, start, stop),
        "integrated_gradients_by_quadrature": lambda: maso_rnn.integrated_gradients_by_quadrature(gated, start, stop),
        "integrated_gradients_on_device": lambda: maso_rnn.integrated_gradients_on_device(
            small, start, stop, max_regions=256
        ),
        "jacobian_spectra": lambda: maso_rnn.jacobian_spectra(cell, h0, start),
        "kaplan_yorke_dimension": lambda: maso_rnn.kaplan_yorke_dimension(exponents),
        "last_output": lambda: maso_rnn.last_output(rnn, start),
        "leaky_relu": lambda: maso_rnn.leaky_relu(0.1),
        "linearization_error": lambda: maso_rnn.linearization_error(linear, cell, first_two, h0, start),
        "linearize": lambda: maso_rnn.linearize(cell, first_two, h0, start),
        "lyapunov_exponents": lambda: maso_rnn.lyapunov_exponents(cell, h0, start),
        "match": lambda: maso_rnn.match(affine, start),
        "modal_coordinates": lambda: maso_rnn.modal_coordinates(states, kernel),
        "nearest_change": lambda: maso_rnn.nearest_change(small, start, 3),
        "noise_penalty": lambda: maso_rnn.noise_penalty(rnn, start, scale=0.1, loss=cross_entropy),
        "np_rnn": lambda: maso_rnn.np_rnn()(*draw),
        "pack": lambda: maso_rnn.pack(codes),
        "parallel_forward": lambda: maso_rnn.parallel_forward(small, start),
        "partition_plane": lambda: maso_rnn.partition_plane(small, start, 0.1 * u, 0.1 * stop, max_regions=20_000),
        "per_gate": lambda: maso_rnn.per_gate(maso_rnn.np_rnn(), 4)(KEY, (HIDDEN, 4 * HIDDEN), "float32"),
        "pulse_decay": lambda: maso_rnn.pulse_decay(cell, kernel, h0, start),
        "random_initial_state": lambda: maso_rnn.random_initial_state(KEY, h0, 0.1),
        "recurrent_kernels": lambda: maso_rnn.recurrent_kernels(rnn),
        "sample_states": lambda: maso_rnn.sample_states(KEY, states[None], 8),
        "spectra": lambda: maso_rnn.spectra(rnn),
        "spectral_radius": lambda: maso_rnn.spectral_radius()(*draw),
        "spectrum": lambda: maso_rnn.spectrum(kernel),
        "spectrum_table": lambda: maso_rnn.spectrum_table(found),
        "template_margin": lambda: maso_rnn.template_margin(affine, start, 3),
        "trajectory": lambda: maso_rnn.trajectory(rnn, start),
        "unpack": lambda: maso_rnn.unpack(packed, rnn),
        "walk_line": lambda: maso_rnn.walk_line(rnn, start, stop, max_regions=20_000),
        "walk_line_on_device": lambda: maso_rnn.walk_line_on_device(small, start, stop, max_regions=256),
    }


def paths():
    """Calls of `path_opt`'s functions; of a transform, one update."""
    rnn = maso_rnn.init(KEY, 1, [HIDDEN], 10)
    graph = path_opt.reduction_graph(rnn)
    values = path_opt.path_values(rnn, graph)
    names = maso_rnn.Layer("layers/0/input_kernel", "layers/0/recurrent_kernel", "layers/0/bias")
    readout = maso_rnn.Readout("readout/kernel", "readout/bias")
    tree = {
        "layers": {
            "0": dict(zip(("input_kernel", "recurrent_kernel", "bias"), jax.tree.leaves(rnn.layers), strict=True))
        },
        "readout": {"kernel": rnn.readout.kernel, "bias": rnn.readout.bias},
    }

    def update(transform):
        return jax.jit(transform.update)(rnn, transform.init(rnn), rnn)

    return {
        "balance": lambda: path_opt.balance(rnn, graph),
        "equivariant_adam": lambda: update(path_opt.equivariant_adam(1e-3, graph=graph)),
        "from_path_values": lambda: path_opt.from_path_values(values, graph),
        "in_path_space": lambda: update(path_opt.in_path_space(optax.sgd(1e-3), graph)),
        "path_norm": lambda: path_opt.path_norm(rnn, graph, TIME),
        "path_sgd": lambda: update(path_opt.path_sgd(1e-3, graph=graph, num_steps=TIME)),
        "path_space_adam": lambda: update(path_opt.path_space_adam(1e-3, graph=graph)),
        "path_space_sgd": lambda: update(path_opt.path_space_sgd(1e-3, graph=graph)),
        "path_values": lambda: path_opt.path_values(rnn, graph),
        "reduction_graph": lambda: path_opt.reduction_graph(rnn),
        "reduction_graph_from_paths": lambda: path_opt.reduction_graph_from_paths(
            tree, [names], readout, activation="relu"
        ),
        "rescale": lambda: path_opt.rescale(rnn, graph, (jnp.full(HIDDEN, 0.1),)),
        "scale_by_path_norm": lambda: update(path_opt.scale_by_path_norm(graph, TIME)),
        "set_skeleton": lambda: path_opt.set_skeleton(rnn, graph),
    }


def responses():
    """Calls of `srnn`'s functions."""
    model = srnn.init(KEY, 2, 64)
    control = 0.1 * jax.random.normal(jax.random.key(1), (STEPS, 2))
    controls, times = 0.1 * jax.random.normal(KEY, (32, STEPS, 2)), jnp.arange(STEPS + 1) * DT
    kernel = srnn.response_kernel(model, read, **RUN)
    return {
        "drift": lambda: srnn.drift(model, jnp.zeros(64)),
        "fluctuation_dissipation": lambda: srnn.fluctuation_dissipation(model, read, burn_in=10 * DT, **RUN),
        "init": lambda: srnn.init(KEY, 2, 64),
        "memory_timescales": lambda: srnn.memory_timescales(kernel, components=2),
        "response_coefficients": lambda: srnn.response_coefficients(kernel, times, order=3),
        "response_feature": lambda: srnn.response_feature(control, times, order=3, depth=2),
        "response_gram": lambda: srnn.response_gram(controls, controls, times),
        "response_kernel": lambda: srnn.response_kernel(model, read, **RUN),
        "signature": lambda: srnn.signature(control, 4),
        "simulate": lambda: srnn.simulate(model, control, **RUN),
        "truncation_bound": lambda: srnn.truncation_bound(model, control, dt=DT, order=2, readout_sd=1.0),
        "volterra": lambda: srnn.volterra(kernel, control, DT),
        "volterra_terms": lambda: srnn.volterra_terms(model, read, control, max_order=3, **RUN),
    }


def seconds(call):
    """Wall seconds of a call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def test_first_results(record):
    found = {}
    for package, calls in ((maso_rnn, spline()), (path_opt, paths()), (srnn, responses())):
        public = {name for name in package.__all__ if inspect.isfunction(getattr(package, name))}
        assert calls.keys() == public
        for name, call in calls.items():
            jax.clear_caches()
            found[f"{package.__name__}.{name}"] = {"first": seconds(call), "again": seconds(call)}
    size = {"time": TIME, "hidden": HIDDEN, "input": 1, "output": 10, "SRNN steps": STEPS, "SRNN paths": PATHS}
    record("time to first result", size, {}, **found)
