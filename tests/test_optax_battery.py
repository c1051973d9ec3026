"""One battery, run on every transform of `path_opt`: what an optax user may take for granted of each of them."""

import collections
import functools
import pickle

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import maso_rnn
import path_opt
from tests.contracts import table
from tests.path_networks import flat, graph_of, log_normal, network, sequence

pytestmark = pytest.mark.filterwarnings("ignore:path-space steps")
RNN = network("widening")
GRAPH = graph_of(RNN)
XS = sequence(GRAPH.inputs)
TARGETS = jnp.sin(jnp.arange(len(XS), dtype=float))[:, None]

# each public transform: how it is made from a learning rate (None where it has none), and its static arguments
TRANSFORMS = {
    "in_path_space": (lambda rate, graph: path_opt.in_path_space(optax.sgd(rate), graph), None),
    "path_space_sgd": (functools.partial(path_opt.path_space_sgd, momentum=0.9), {"static_args": ("graph",)}),
    "path_space_adam": (path_opt.path_space_adam, {"static_args": ("graph",)}),
    "scale_by_path_norm": (
        lambda rate, graph: optax.chain(path_opt.scale_by_path_norm(graph, 5), optax.scale(-rate)),
        None,
    ),
    "path_sgd": (
        functools.partial(path_opt.path_sgd, num_steps=5),
        {"static_args": ("graph", "num_steps", "refresh_every", "readout", "second_order", "normalize")},
    ),
    "path_sgd both orders": (
        functools.partial(path_opt.path_sgd, num_steps=5, second_order=True, refresh_every=2),
        {"static_args": ("graph", "num_steps", "refresh_every", "readout", "second_order", "normalize")},
    ),
    "equivariant_adam": (path_opt.equivariant_adam, {"static_args": ("graph",)}),
}
RATE = 1e-3
# one of each kind of update and state: the others are these with another inner transform or another norm, which what
# wraps a transform does not see
KINDS = ("path_space_adam", "path_sgd", "equivariant_adam")
# one of each factory that takes a learning rate
FACTORIES = ("path_space_sgd", *KINDS)
TRACES = collections.Counter()


@pytest.fixture(params=TRANSFORMS)
def name(request):
    return request.param


def made(name, rate=RATE, graph=GRAPH):
    return TRANSFORMS[name][0](rate, graph=graph)


@functools.cache
def first_step(name):
    """The transform, its state at the start, its update compiled, and what that returns for `GRADIENT(RNN)`."""
    transform = made(name)

    @jax.jit
    def update(updates, state, params):
        TRACES[name] += 1
        return transform.update(updates, state, params)

    state = transform.init(RNN)
    return transform, state, update, update(GRADIENT(RNN), state, RNN)


def loss(rnn):
    return ((maso_rnn.forward(rnn, XS) - TARGETS) ** 2).mean()


GRADIENT = jax.jit(jax.grad(loss))


def run(transform, params, steps):
    """Parameters and state after that many steps."""

    def body(carry, _):
        params, state = carry
        updates, state = transform.update(GRADIENT(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda params: jax.lax.scan(body, (params, transform.init(params)), length=steps)[0])(params)


def test_every_public_transform_is_here():
    listed = {"path_opt." + name.split()[0] for name in TRANSFORMS}
    assert listed == set(table.exempt("TRANSFORMS"))


def test_it_descends_and_keeps_structure_dtype_and_shape(name):
    _, state, _, (updates, after) = first_step(name)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, RNN)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert loss(optax.apply_updates(RNN, updates)) < loss(RNN)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtypes_are_kept(name, dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), RNN)
    transform = made(name)
    state = transform.init(params)
    updates, after = jax.eval_shape(transform.update, params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    inexact = [leaf.dtype for leaf in jax.tree.leaves(after) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    assert set(inexact) <= {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "scale_by_path_norm"])  # it has no rate
@pytest.mark.parametrize(("dtype", "rate"), [(jnp.float32, np.float64(RATE)), (jnp.bfloat16, jnp.float32(RATE))])
def test_a_learning_rate_of_a_wider_dtype_widens_nothing(name, dtype, rate):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), RNN)
    transform = made(name, rate=rate)
    state = transform.init(params)
    updates, after = jax.eval_shape(transform.update, params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@pytest.mark.parametrize(("dtype", "other"), [(jnp.float64, jnp.float32), (jnp.float32, jnp.float64)])
def test_gradients_of_another_dtype_are_taken_in_that_of_the_weights(name, dtype, other):
    params, gradient = (jax.tree.map(lambda leaf, d=d: leaf.astype(d), RNN) for d in (dtype, other))
    transform = made(name)
    state = transform.init(params)
    updates, after = jax.eval_shape(transform.update, gradient, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def test_jit_equals_eager_and_the_second_step_does_not_recompile(name):
    transform, start, update, (updates, state) = first_step(name)
    eager, _ = transform.update(GRADIENT(RNN), start, RNN)
    np.testing.assert_allclose(flat(updates), flat(eager), rtol=1e-9, atol=1e-15)  # fusing reorders sums
    params = optax.apply_updates(RNN, updates)
    before = TRACES[name]
    update(GRADIENT(params), state, params)
    assert TRACES[name] == before


def test_extra_arguments_are_accepted(name):
    transform = made(name)
    assert isinstance(transform, optax.GradientTransformationExtraArgs)
    jax.eval_shape(
        lambda params: transform.update(params, transform.init(params), params, value=1.0, anything="else"), RNN
    )


def test_params_are_asked_for(name):
    transform = made(name)
    with pytest.raises(ValueError, match=r"needs the parameters: call update\(updates, state, params\)"):
        transform.update(GRADIENT(RNN), transform.init(RNN))


@pytest.mark.parametrize("name", KINDS)
def test_last_in_a_chain(name):
    chained = optax.chain(optax.scale(0.5), optax.identity(), made(name))
    updates, _ = jax.jit(chained.update)(GRADIENT(RNN), chained.init(RNN), RNN)
    _, state, update, _ = first_step(name)
    alone, _ = update(jax.tree.map(lambda g: 0.5 * g, GRADIENT(RNN)), state, RNN)
    np.testing.assert_allclose(flat(updates), flat(alone), rtol=1e-9, atol=1e-15)  # compiled otherwise


@pytest.mark.parametrize("name", KINDS)
def test_multi_steps(name):
    transform = optax.MultiSteps(made(name), every_k_schedule=2)
    state, update = transform.init(RNN), jax.jit(transform.update)
    first, state = update(GRADIENT(RNN), state, RNN)
    assert not np.any(flat(first))
    second, _ = update(GRADIENT(RNN), state, RNN)
    alone = first_step(name)[-1][0]
    np.testing.assert_allclose(flat(second), flat(alone), rtol=1e-5)  # MultiSteps weighs its mean in float32


@pytest.mark.parametrize("name", FACTORIES)
def test_inject_hyperparams(name):
    factory, options = TRANSFORMS[name]
    transform = optax.inject_hyperparams(factory, **options)(learning_rate=RATE, graph=GRAPH)
    update = jax.jit(transform.update)
    state = transform.init(RNN)
    updates, state = update(GRADIENT(RNN), state, RNN)
    alone = first_step(name)[-1][0]
    # the rate became a float32 or float64 array
    np.testing.assert_allclose(flat(updates), flat(alone), rtol=1e-6, atol=1e-12)
    state.hyperparams["learning_rate"] = jnp.zeros_like(state.hyperparams["learning_rate"])
    still, _ = update(GRADIENT(RNN), state, RNN)
    np.testing.assert_allclose(flat(still), 0, atol=1e-18)


@pytest.mark.parametrize("name", FACTORIES)
def test_injected_schedules_may_start_from_zero_and_end_there(name):
    factory, options = TRANSFORMS[name]
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, warmup_steps=1, decay_steps=2)
    transform = optax.inject_hyperparams(factory, **options)(learning_rate=schedule, graph=GRAPH)
    state, update = transform.init(RNN), jax.jit(transform.update)
    for is_still in (True, False, True):
        if is_still:
            eager, _ = transform.update(GRADIENT(RNN), state, RNN)
            np.testing.assert_allclose(flat(eager), 0, atol=1e-18)  # decode(v) - decode(v) of equal numbers
        updates, state = update(GRADIENT(RNN), state, RNN)
        assert np.allclose(flat(updates), 0, rtol=0, atol=1e-18) == is_still


@pytest.mark.parametrize("name", FACTORIES)
def test_schedules(name):
    scheduled = made(name, rate=lambda count: jnp.where(count < 1, RATE, 0.0))
    state, update = scheduled.init(RNN), jax.jit(scheduled.update)
    first, state = update(GRADIENT(RNN), state, RNN)
    second, _ = update(GRADIENT(RNN), state, RNN)
    assert np.any(flat(first))
    np.testing.assert_allclose(flat(second), 0, atol=1e-18)  # decode(v) - decode(v) of equal numbers


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **rest: COMPILED.append(event) if event.endswith("backend_compile_duration") else None
)


def test_a_second_eager_update_compiles_nothing(name):
    gradient, transform = GRADIENT(RNN), made(name)
    updates, state = transform.update(gradient, transform.init(RNN), RNN)
    params = optax.apply_updates(RNN, updates)
    transform.update(gradient, state, params)
    doubled, again = jax.tree.map(lambda g: 2 * g, gradient), made(name)  # another transform of the same kind
    before = len(COMPILED)
    again.update(doubled, state, params)
    assert len(COMPILED) == before


@pytest.mark.parametrize("name", KINDS)
def test_a_fresh_state_can_be_donated(name):
    transform = made(name)
    donating = jax.jit(lambda params, state: transform.update(params, state, params), donate_argnums=1)
    state = transform.init(RNN)
    updates, after = donating(RNN, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, RNN)
    with pytest.raises(ValueError, match="state has been deleted, as donated arrays are"):
        transform.update(GRADIENT(RNN), state, RNN)
    params = jax.tree.map(jnp.copy, RNN)
    jax.jit(lambda params: jax.tree.map(jnp.negative, params), donate_argnums=0)(params)
    with pytest.raises(ValueError, match=r"params: leaf .* has been deleted"):
        transform.update(GRADIENT(RNN), after, params)


def test_tree_map_params_finds_the_parameters_in_the_state(name):
    transform, (_, state) = made(name), first_step(name)[-1]
    marked = optax.tree_utils.tree_map_params(
        transform, lambda leaf, p: jnp.full_like(p, 7), state, RNN, transform_non_params=lambda leaf: leaf
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(marked, state)
    like_params = {"path_space_sgd": 1, "path_space_adam": 2, "equivariant_adam": 2, "in_path_space": 0}
    sevens = [leaf for leaf in jax.tree.leaves(marked) if bool(jnp.all(leaf == 7))]
    assert len(sevens) == like_params.get(name, 1) * len(jax.tree.leaves(RNN))


def test_a_state_of_another_graph_is_refused(name):
    other = network("narrowing")
    state = made(name, graph=graph_of(other)).init(other)
    if name == "in_path_space":  # gradient descent has no state that could be another's
        state = state._replace(inner=state.inner._replace(crossings=jnp.zeros(3, int)))
    with pytest.raises(ValueError, match=r"state is of another graph or transform: .*\.init\(params\) makes"):
        made(name).update(GRADIENT(RNN), state, RNN)


def test_checkpoints_go_on_where_they_were(name):
    _, start, update, (updates, state) = first_step(name)
    params = optax.apply_updates(RNN, updates)
    wanted, _ = update(GRADIENT(params), state, params)
    pickled = pickle.loads(pickle.dumps(state))
    packed = flax.serialization.from_bytes(start, flax.serialization.to_bytes(state))
    for restored in (pickled, packed):
        restored = jax.tree.map(jnp.asarray, restored)
        chex.assert_trees_all_equal(update(GRADIENT(params), restored, params)[0], wanted)


@pytest.mark.slow
def test_orbax_checkpoints(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    _, start, _, (_, state) = first_step("path_space_adam")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", start)
    chex.assert_trees_all_equal(restored, state)


@pytest.mark.parametrize("name", KINDS)
def test_a_train_state(name):
    params = {"rnn": RNN}  # a TrainState looks keys up in its gradients
    transform = made(name, graph=path_opt.reduction_graph(params))
    trained = TrainState.create(apply_fn=maso_rnn.forward, params=params, tx=transform)
    trained = jax.jit(lambda state: state.apply_gradients(grads={"rnn": GRADIENT(state.params["rnn"])}))(trained)
    alone = first_step(name)[-1][0]
    np.testing.assert_allclose(flat(trained.params), flat(optax.apply_updates(RNN, alone)), rtol=1e-12)
    assert "no step was skipped" in path_opt.summary(trained.opt_state)


def test_the_summary_counts_over_members_and_is_of_concrete_states():
    members = jax.vmap(made("path_space_adam").init)(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), RNN))
    assert path_opt.summary(members._replace(skipped=jnp.arange(3))).startswith("3 steps were skipped")
    with pytest.raises(TypeError, match="state must be known"):
        jax.jit(path_opt.summary)(members)


@pytest.mark.parametrize("name", KINDS)
def test_lookahead(name):
    transform = optax.lookahead(made(name), sync_period=2, slow_step_size=0.5)
    params = optax.LookaheadParams.init_synced(RNN)
    state, update = transform.init(params), jax.jit(transform.update)
    for _ in range(2):
        updates, state = update(GRADIENT(params.fast), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(flat(params.fast), flat(params.slow), rtol=1e-12)
    assert np.any(flat(params.slow) != flat(RNN))


@pytest.mark.parametrize("name", KINDS)
def test_one_leaf_may_be_frozen_by_partition(name):
    labels = jax.tree.map(lambda _: "trained", RNN)
    of_metric = "norm" in name or "path_sgd" in name
    upper = labels.layers[1].replace(recurrent_kernel="trained" if of_metric else "frozen", bias="frozen")
    labels = labels.replace(layers=(labels.layers[0], upper), initial=("frozen", "trained"))
    transform = optax.partition({"trained": made(name), "frozen": optax.set_to_zero()}, labels)
    updates, _ = jax.jit(transform.update)(GRADIENT(RNN), transform.init(RNN), RNN)
    moved = [bool(jnp.any(update != 0)) for update in jax.tree.leaves(updates)]
    # of the trained ones too some may stay: a readout of skeleton edges alone, a state whose only way on is masked
    frozen = [label == "frozen" for label in jax.tree.leaves(labels)]
    assert not any(moves and stays for moves, stays in zip(moved, frozen, strict=True))
    assert sum(moved) >= len(moved) - sum(frozen) - 1
    assert loss(optax.apply_updates(RNN, updates)) < loss(RNN)
    labels = jax.tree.map(lambda _: "trained", RNN)
    labels = labels.replace(readout=labels.readout.replace(kernel="frozen"))
    with pytest.raises(ValueError, match=r"the kernel readout/kernel is masked.*optax\.masked\(optax\.set_to_zero"):
        optax.partition({"trained": made(name), "frozen": optax.set_to_zero()}, labels).init(RNN)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("axis", [AxisType.Auto, AxisType.Explicit])
def test_sharded_parameters_get_the_same_steps(name, axis):
    mesh = jax.make_mesh((2,), ("units",), axis_types=(axis,))
    rnn, gradient = (jax.device_put(tree, NamedSharding(mesh, P())) for tree in (RNN, GRADIENT(RNN)))
    transform = made(name)
    with jax.set_mesh(mesh):
        updates, _ = jax.jit(transform.update)(gradient, transform.init(rnn), rnn)
    np.testing.assert_allclose(flat(jax.device_get(updates)), flat(first_step(name)[-1][0]), rtol=1e-9, atol=1e-15)


def test_a_random_key_in_the_inner_state():
    transform = path_opt.in_path_space(optax.noisy_sgd(RATE, key=0), GRAPH)
    updates, state = jax.jit(transform.update)(GRADIENT(RNN), transform.init(RNN), RNN)
    again, _ = jax.jit(transform.update)(GRADIENT(RNN), state, RNN)
    assert bool(jnp.isfinite(flat(updates)).all())
    assert np.any(flat(updates) != flat(again))


@pytest.mark.parametrize("make", [path_opt.path_space_sgd, path_opt.equivariant_adam])
def test_clipping_bounds_the_gradient_that_the_inner_transform_sees(make, key):
    gradient = jax.tree.map(lambda g: 1e6 * g, GRADIENT(RNN))
    other = path_opt.rescale(RNN, GRAPH, log_normal(GRAPH, key))
    bounded = make(RATE, graph=GRAPH, clip=1.0)
    outputs = []
    for start in (RNN, other):
        # what a rescaling does to the gradient, at any size
        seen = jax.tree.map(lambda g, w, v: g * jnp.where(w == 0, 1, v / w), gradient, start, RNN)
        updates, _ = bounded.update(seen, bounded.init(start), start)
        outputs.append(maso_rnn.forward(optax.apply_updates(start, updates), XS))
    np.testing.assert_allclose(*outputs, rtol=1e-9)  # as any step, it follows a rescaling
    unbounded, _ = make(RATE, graph=GRAPH).update(gradient, make(RATE, graph=GRAPH).init(RNN), RNN)
    bound, _ = bounded.update(gradient, bounded.init(RNN), RNN)
    if make is path_opt.path_space_sgd:  # Adam does not see the size of a gradient
        assert abs(flat(bound)).max() < 1e-3 * abs(flat(unbounded)).max()


@pytest.mark.parametrize("name", KINDS)
def test_partition_and_masked_nodes(name):
    params = {"embed": jnp.ones((2, 2)), "rnn": RNN}
    graph = path_opt.reduction_graph(params)
    transform = optax.partition(
        {"rnn": made(name, graph=graph), "rest": optax.adam(1e-3)},
        {"embed": "rest", "rnn": jax.tree.map(lambda _: "rnn", RNN)},
    )
    gradient = {"embed": jnp.ones((2, 2)), "rnn": GRADIENT(RNN)}
    state = transform.init(params)
    updates, after = jax.jit(transform.update)(gradient, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    alone = first_step(name)[-1][0]
    np.testing.assert_allclose(flat(updates["rnn"]), flat(alone), rtol=1e-9, atol=1e-15)  # compiled otherwise
    np.testing.assert_allclose(updates["embed"], -1e-3, rtol=1e-5)  # Adam's first step


@pytest.mark.parametrize("name", KINDS)
def test_apply_if_finite(name):
    transform = optax.apply_if_finite(made(name), max_consecutive_errors=2)
    state, update = transform.init(RNN), jax.jit(transform.update)
    bad = jax.tree.map(lambda g: g * jnp.nan, GRADIENT(RNN))
    updates, state = update(bad, state, RNN)
    assert not np.any(flat(updates))
    updates, _ = update(GRADIENT(RNN), state, RNN)
    assert np.any(flat(updates))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_step_that_would_not_be_finite_is_left_out_and_counted(name, bad):
    _, state, update, (good, _) = first_step(name)
    gradient = GRADIENT(RNN)
    spoiled = gradient.replace(readout=gradient.readout.replace(bias=jnp.full_like(gradient.readout.bias, bad)))
    updates, after = update(spoiled, state, RNN)
    guard, before = (after[0], state[0]) if name == "scale_by_path_norm" else (after, state)
    assert not np.any(flat(updates))
    assert (int(guard.skipped), int(guard.nonfinite_gradients)) == (1, 1)
    chex.assert_trees_all_equal(guard.inner, before.inner)
    updates, _ = update(gradient, after, RNN)
    chex.assert_trees_all_equal(updates, good)


@pytest.mark.parametrize("name", ["in_path_space", "scale_by_path_norm", "path_sgd"])  # Adam's steps are bounded
def test_an_overflowing_step_is_left_out_though_the_gradient_is_finite(name):
    transform = made(name, rate=1e300)
    huge = jax.tree.map(lambda g: g * 1e300, GRADIENT(RNN))
    updates, state = jax.jit(transform.update)(huge, transform.init(RNN), RNN)
    if name == "scale_by_path_norm":  # the learning rate comes after its guard
        assert int(state[0].nonfinite_gradients) == 0
        return
    assert not np.any(flat(updates))
    assert (int(state.skipped), int(state.nonfinite_gradients)) == (1, 0)


@pytest.mark.parametrize(
    "rate", [0.0, np.float64(0.0), -0.1, float("nan"), float("inf"), jnp.array(-0.1), jnp.array(jnp.nan)]
)
@pytest.mark.parametrize(
    "name", [name for name in TRANSFORMS if name.split()[0] not in ("in_path_space", "scale_by_path_norm")]
)
def test_learning_rates_that_cannot_be_are_refused(name, rate):
    with pytest.raises(ValueError, match="learning_rate must be positive and finite, got"):
        made(name, rate=rate)


@pytest.mark.parametrize("plain", [optax.sgd(0.05), optax.adam(0.01)], ids=["sgd", "adam"])
def test_weights_of_rescaled_starts_part(plain, key):
    first, second = outputs_after_training(lambda graph: plain, key)
    assert abs(first - second).max() > 1e-2 * abs(first).max()


INVARIANT = {
    "path_space_sgd": lambda graph: path_opt.path_space_sgd(1e-4, graph=graph),
    "equivariant": lambda graph: path_opt.equivariant_adam(0.01, graph=graph),
}
INVARIANT_TOO = {
    "in_path_space": lambda graph: path_opt.in_path_space(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-4)), graph
    ),
    "momentum": lambda graph: path_opt.path_space_sgd(1e-4, graph=graph, momentum=0.9),
    "path_space_adam": lambda graph: path_opt.path_space_adam(3e-3, graph=graph),
    "path_sgd": lambda graph: path_opt.path_sgd(0.03, graph=graph, num_steps=len(XS), readout="every"),
    "both orders": lambda graph: path_opt.path_sgd(
        0.03, graph=graph, num_steps=len(XS), second_order=True, refresh_every=3
    ),
}


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name) for name, make in INVARIANT.items()]
    + [pytest.param(make, id=name, marks=pytest.mark.slow) for name, make in INVARIANT_TOO.items()],
)
def test_invariant_methods_train_rescaled_starts_alike(make, key):
    first, second = outputs_after_training(make, key)
    before = maso_rnn.forward(RNN, XS)
    # rates at which training is stable: where it diverges, it magnifies the rounding of any method;
    # 200 steps of rounding, which training may magnify a little; the outputs have moved far from the start meanwhile
    assert abs(first - second).max() < 1e-9 * abs(first).max()
    assert abs(first - before).max() > 1e-2 * abs(before).max()


def outputs_after_training(make, key):
    """The outputs after 200 steps from a start and from a rescaling of it (log-normal, sd 1.5)."""
    other = path_opt.rescale(RNN, GRAPH, log_normal(GRAPH, key))
    results = []
    for start in (RNN, other):
        params, _ = run(make(graph_of(start)), start, 200)
        results.append(maso_rnn.forward(params, XS))
    return results
