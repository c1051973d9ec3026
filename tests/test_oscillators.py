"""Coupled oscillators: against NumPy in the paper's column vectors, their bounds, and their exponents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn

SETTINGS = {"dt": 0.05, "gamma": 2.0, "epsilon": 3.0}


def of_the_paper(params, us):
    """Outputs (time, output) by equation 3, in column vectors, one number at a time."""
    W, U, V = (np.asarray(k, float).T for k in (params.recurrent_kernel, params.velocity_kernel, params.input_kernel))
    b, Q, c = (np.asarray(k, float) for k in (params.bias, params.readout.kernel, params.readout.bias))
    dt, gamma, epsilon = params.dt, params.gamma, params.epsilon
    y, z, outputs = np.zeros(len(b)), np.zeros(len(b)), []
    for u in np.asarray(us, float):
        forces = [
            np.tanh(sum(W[i, j] * y[j] + U[i, j] * z[j] for j in range(len(b))) + V[i] @ u + b[i])
            for i in range(len(b))
        ]
        z = np.array([(z[i] + dt * forces[i] - dt * gamma * y[i]) / (1 + dt * epsilon) for i in range(len(b))])
        y = y + dt * z
        outputs.append(Q.T @ y + c)
    return np.array(outputs)


def outputs_of(cell, xs):
    def body(carry, x):
        carry = cell(carry, x)
        return carry, (cell.read(carry), carry)

    return jax.lax.scan(body, cell.initial, xs)[1]


def test_outputs_are_those_of_an_independent_implementation(key):
    cell = maso_rnn.cornn(key, 3, 5, 2, dtype=jnp.float64, **SETTINGS)
    cell = cell.replace(params=jax.tree.map(lambda leaf: 3 * leaf, cell.params))  # away from where tanh is linear
    us = jax.random.normal(key, (40, 3))
    np.testing.assert_allclose(outputs_of(cell, us)[0], of_the_paper(cell.params, us), rtol=0, atol=1e-13)


def test_it_is_taken_wherever_a_cell_is(key):
    cell = maso_rnn.cornn(key, 1, 4, 1, dtype=jnp.float64, **SETTINGS)
    us = jax.random.normal(key, (12, 1))
    linear = maso_rnn.linearize(cell, us)
    np.testing.assert_allclose(linear.output, of_the_paper(cell.params, us)[-1], atol=1e-13)
    slope = jax.jacobian(lambda us: outputs_of(cell, us)[0][-1])(us)
    np.testing.assert_allclose(linear.slope, slope, atol=1e-13)


@pytest.mark.parametrize(("dt", "gamma", "epsilon"), [(2.1, 1.0, 0.0), (0.5, 17.0, 0.1), (3.0, 1.0, 0.8)])
def test_steps_that_run_away_are_refused_and_those_below_do_not(key, dt, gamma, epsilon):
    with pytest.raises(ValueError, match="dt"):
        maso_rnn.cornn(key, 1, 4, 1, dt=dt, gamma=gamma, epsilon=epsilon)
    limit = (epsilon + (epsilon**2 + 4 * gamma) ** 0.5) / gamma

    def growth(dt):
        """Of one oscillator by itself, per step: the largest modulus of an eigenvalue."""
        damped = 1 / (1 + epsilon * dt)
        return np.abs(
            np.linalg.eigvals([[1 - damped * gamma * dt**2, damped * dt], [-damped * gamma * dt, damped]])
        ).max()

    assert growth(1.001 * limit) > 1
    assert growth(0.999 * limit) < 1 + 1e-12
    assert maso_rnn.cornn(key, 1, 4, 1, dt=0.999 * limit, gamma=gamma, epsilon=epsilon)


@jax.jit
def _gradients(cell, us, targets):
    """The loss of the paper, its gradient, the states, and the largest norm of its gradient in a place."""

    def loss(cell):
        _, (y, z) = outputs_of(cell, us)
        return ((y - targets) ** 2).sum() / 2 / len(us), (y, z)

    (_, states), gradient = jax.value_and_grad(loss, has_aux=True)(cell)
    params = gradient.params
    parts = (params.recurrent_kernel, params.velocity_kernel, params.input_kernel, params.bias)
    slope = jnp.linalg.norm(states[0] - targets, axis=1).max()
    jacobians = jax.lax.scan(
        lambda carry, u: (
            cell(carry, u),
            jax.jacobian(lambda flat: jnp.concatenate(cell(tuple(flat), u)))(jnp.stack(carry)),
        ),
        cell.initial,
        us,
    )[1]
    return jnp.stack([jnp.abs(part).max() for part in parts]).max(), states, slope, jacobians


def draws(count, **fixed):
    """Random networks, inputs and targets, with their step sizes and damping."""
    rng = np.random.default_rng(0)
    hidden, steps = 4, 20
    for _ in range(count):
        # few different static numbers, which compile anew
        setting = {"dt": 0.05, "gamma": 1.0, "epsilon": 1.0} | {
            name: float(rng.choice(values)) for name, values in fixed.items()
        }
        cell = maso_rnn.cornn(jax.random.key(0), 2, hidden, 1, dtype=jnp.float64, **setting)
        scale = 10 ** rng.uniform(-1, 1)
        params = cell.params.replace(
            recurrent_kernel=jnp.asarray(scale * rng.standard_normal((hidden, hidden))),
            velocity_kernel=jnp.asarray(scale * rng.standard_normal((hidden, hidden))),
            input_kernel=jnp.asarray(rng.standard_normal((2, hidden))),
        )
        us = jnp.asarray(rng.uniform(-1, 1, (steps, 2)))
        yield cell.replace(params=params), us, jnp.asarray(rng.standard_normal((steps, hidden)))


def test_bounds_are_never_exceeded():
    closest = 0.0
    for cell, us, targets in draws(200, dt=[0.05, 0.4], gamma=[0.3, 4.0], epsilon=[1.0]):
        largest, (y, z), slope, jacobians = _gradients(cell, us, targets)
        bounds = maso_rnn.cornn_bounds(cell, len(us), slope=float(slope))
        gamma, dt = cell.params.gamma, cell.params.dt
        assert (gamma * (y**2).sum(axis=1) + (z**2).sum(axis=1) <= bounds.states).all()
        assert largest <= bounds.gradient
        # the norm of the page on the maths: γ|y|² + |z|² − γ dt y·z
        form = np.kron([[gamma, -gamma * dt / 2], [-gamma * dt / 2, 1]], np.eye(y.shape[1]))
        root = np.linalg.cholesky(form).T
        flat = np.asarray(jacobians).reshape(len(us), 2 * y.shape[1], -1)
        norms = np.linalg.norm(root @ flat @ np.linalg.inv(root), 2, axis=(1, 2))
        assert norms.max() <= bounds.growth * (1 + 1e-12)
        closest = max(closest, (norms.max() - 1) / (bounds.growth - 1))
    assert closest > 0.3  # the growth is not bounded idly


def test_the_bound_of_the_paper_is_never_exceeded_under_its_conditions():
    # γ = ε = 1, a time of at most 1, and dt (1 + ‖W‖) / (1 + dt) and dt ‖𝒲‖ / (1 + dt) at most √dt
    met = 0
    for cell, us, targets in draws(200, dt=[0.05]):
        dt, norms = (
            0.05,
            [np.abs(k).sum(axis=0).max() for k in (cell.params.recurrent_kernel, cell.params.velocity_kernel)],
        )
        if max(dt * (1 + norms[0]), dt * norms[1]) / (1 + dt) > dt**0.5:
            continue
        met += 1
        largest, *_ = _gradients(cell, us, targets)
        hidden = targets.shape[1]
        assert largest <= 1.5 * (hidden + np.abs(targets).max() * hidden**0.5)
    assert met > 50


def test_conditions_that_are_not_met_show_as_infinity(key):
    loose = maso_rnn.cornn(key, 1, 3, 1, dt=0.5, gamma=1.0, epsilon=0.1)
    bounds = maso_rnn.cornn_bounds(loose, 4)
    assert jnp.isinf(bounds.states).all()
    assert jnp.isfinite(bounds.growth)
    assert jnp.isinf(bounds.gradient)
    coarse = maso_rnn.cornn(key, 1, 3, 1, dt=2.05, gamma=1.0, epsilon=2.0)
    assert jnp.isinf(maso_rnn.cornn_bounds(coarse, 4).growth)


def test_exponents_are_those_of_damped_oscillators_and_of_the_jacobians(key):
    cell = maso_rnn.cornn(key, 1, 3, 1, dtype=jnp.float64, dt=0.1, gamma=4.0, epsilon=0.5)
    us = jax.random.normal(key, (400, 1))
    alone = cell.replace(params=jax.tree.map(jnp.zeros_like, cell.params))
    found = maso_rnn.lyapunov_exponents(alone, alone.initial, us, warmup=0, dt=0.1)
    # complex pairs with a product of 1 / (1 + ε dt): every exponent is half of its logarithm, up to 1 / time
    np.testing.assert_allclose(found.exponents, -np.log(1.05) / 2 / 0.1, atol=0.05)
    spectrum = maso_rnn.lyapunov_exponents(cell, cell.initial, us, warmup=0, dt=0.1)
    moved = jax.jit(jax.jacobian(lambda h, u: jnp.concatenate(cell((h[:3], h[3:]), u))))
    h, logs = jnp.concatenate(cell.initial), []
    for u in us[:400]:
        jacobian = moved(h, u)
        logs.append(np.linalg.slogdet(jacobian)[1])
        h = jnp.concatenate(cell((h[:3], h[3:]), u))
    np.testing.assert_allclose(spectrum.exponents.sum(), np.mean(logs) / 0.1, rtol=1e-9)
