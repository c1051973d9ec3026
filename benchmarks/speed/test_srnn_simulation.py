"""The SRNN's paths and kernels against a hand-written scan over the same steps, and against torchsde."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from benchmarks.speed.interleaved import best, compare, first_called, installed, jitted
from benchmarks.speed.reach import Bar

HIDDEN, STEPS, PATHS, DT = 64, 1000, 1024, 0.01
RUN = {"paths": PATHS, "t1": STEPS * DT, "dt": DT}
SIZE = {"hidden": HIDDEN, "step": STEPS, "path": PATHS}
MIB = 2**20
SCAN = "hand-written Gaussian scan"
AS_SYSTEM = "ours, of the same model as a System"


def setting(*, full):
    """A model with diagonal decay and noise, or full ones, and its input."""
    model = srnn.init(jax.random.key(0), 3, HIDDEN, noise_size=HIDDEN if full else None, dtype="float32")
    if full:
        model = dataclasses.replace(model, decay=jnp.diag(model.decay) + 0.0)
    return model, jax.random.normal(jax.random.key(1), (STEPS, 3), "float32")


def hand_written(model, control, key, *, full):
    """What a good hand would write for these kernels, Euler and Gaussian noise."""

    def body(h, now):
        k, u = now
        db = DT**0.5 * jax.random.normal(jax.random.fold_in(key, k), h.shape, h.dtype)
        noise = db @ model.noise_kernel if full else db * model.noise_kernel
        decayed = h @ model.decay if full else h * model.decay
        rate = jnp.tanh(h @ model.recurrent_kernel + model.bias) - decayed + u @ model.input_kernel
        return h + DT * rate + noise, None

    start = jnp.zeros((PATHS, HIDDEN), "float32")
    return jax.lax.scan(body, start, (jnp.arange(STEPS), control))[0]


def in_torchsde(model, control, *, full):
    """Euler's scheme by torchsde, with its own Brownian motion and with plain normal numbers, on one thread."""
    torch, torchsde = installed("torch"), installed("torchsde")
    if not torchsde:
        return {}, ["torchsde"]
    torch.set_num_threads(1)
    decay, kernel, bias, noise = (
        torch.from_numpy(np.array(array))
        for array in (model.decay, model.recurrent_kernel, model.bias, model.noise_kernel)
    )
    pushes = torch.from_numpy(np.array(control @ model.input_kernel)).unbind()

    class Equation:
        sde_type, noise_type = "ito", "general" if full else "diagonal"

        def f_and_g_prod(self, t, h, db):
            push = pushes[min(round(float(t) / DT), STEPS - 1)]
            rate = torch.addmm(bias, h, kernel).tanh_().add_(push)
            rate = rate.addmm_(h, decay, alpha=-1) if full else rate.addcmul_(h, decay, value=-1)
            return rate, db @ noise if full else db * noise

    class Fresh(torchsde.BaseBrownian):
        """New numbers at every step, enough for a scheme that asks for each step once."""

        dtype, device, shape, levy_area_approximation = torch.float32, torch.device("cpu"), (PATHS, HIDDEN), "none"

        def __init__(self):
            super(torchsde.BaseBrownian, self).__init__()

        def __call__(self, t0, t1=None, return_U=False, return_A=False):
            return torch.empty(PATHS, HIDDEN).normal_(0, float(t1 - t0) ** 0.5)

        def __repr__(self):
            return "Fresh()"

        def to(self, *args, **kwargs):
            return self

        def size(self):
            return torch.Size(self.shape)

    @torch.inference_mode()
    def solve(brownian):
        start, ends = torch.zeros(PATHS, HIDDEN), torch.tensor([0.0, STEPS * DT])
        return torchsde.sdeint(Equation(), start, ends, bm=brownian(), method="euler", dt=DT)[-1]

    interval = functools.partial(torchsde.BrownianInterval, 0.0, STEPS * DT, size=(PATHS, HIDDEN), dt=DT)
    return {
        "torchsde": first_called(lambda: solve(interval)),
        "torchsde's scheme on fresh numbers": first_called(lambda: solve(Fresh)),
    }, []


@pytest.mark.parametrize(
    ("increments", "full", "most"),
    [("gaussian", False, 0.8), ("gaussian", True, 0.9), ("two_point", False, 0.3), ("two_point", True, 0.45)],
)
def test_simulate(record, increments, full, most):
    model, control = setting(full=full)
    key = jax.random.key(2)

    def simulated(model, control, key):
        return srnn.simulate(model, control, key=key, increments=increments, **RUN).values[:, 0]

    others, absent = in_torchsde(model, control, full=full)
    programs = {
        "ours": jitted(simulated, model, control, key),
        SCAN: jitted(functools.partial(hand_written, full=full), model, control, key),
        **others,
    }
    ours = np.asarray(programs["ours"].run())
    for name in programs.keys() - {"ours"}:
        theirs = np.asarray(programs[name].run())
        error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / PATHS)
        np.testing.assert_array_less(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)), 6 * error)
    table = compare(programs, repeats=5)
    bars = [Bar("CPU time, against the hand-written Gaussian scan", best(table, SCAN), most)]
    least = 0.3 if increments == "gaussian" else 0.2
    bars.append(Bar("CPU time, against torchsde", best(table, "torchsde") if others else np.nan, least))
    if full and increments == "gaussian":
        bars.append(Bar("temporary memory (MiB)", table["ours"]["temporary_bytes"] / MIB, 8))
    kind = f"{increments} increments, {'full' if full else 'diagonal'} decay and noise"
    record(f"SRNN paths, {kind}", SIZE, table, bars, absent)


def first_activity(state):
    return jnp.tanh(state[0])


def first_order(model, key, **options):
    return srnn.response_kernel(model, first_activity, key=key, **RUN, **options)


def spelt_out(model):
    """The model as a system of its equation."""

    def rate(params, h, u):
        return jnp.tanh(h @ params.recurrent_kernel + params.bias) - h @ params.decay

    return srnn.System(model, rate, model.noise_kernel, input_kernel=model.input_kernel)


def test_first_order_kernel(record):
    """All steps and channels with standard errors, against forward simulations of as many paths."""
    model, _ = setting(full=True)
    key = jax.random.key(2)
    programs = {
        "ours": jitted(functools.partial(first_order, compare=False), model, key),
        "ours, compared with a finite response": jitted(first_order, model, key),
        AS_SYSTEM: jitted(functools.partial(first_order, compare=False), spelt_out(model), key),
        "one forward simulation": jitted(lambda model, key: srnn.simulate(model, key=key, **RUN).values, model, key),
    }
    kernel = programs["ours"].run()
    # half of the paths, run in other chunks with other numbers, say the same
    other = srnn.response_kernel(model, first_activity, key=jax.random.key(3), **RUN | {"paths": PATHS // 2})
    error = np.hypot(np.asarray(kernel.stderr), np.asarray(other.stderr))
    assert np.mean(np.abs(kernel.values - other.values) <= 3 * error) > 0.98
    table = compare(programs, repeats=5)
    record(
        "first-order kernel of all steps and channels, with standard errors",
        SIZE | {"channel": 3},
        table,
        [
            Bar("CPU time, against one forward simulation", best(table, "one forward simulation"), 4.0),
            Bar("CPU time, against the model as a System", best(table, AS_SYSTEM), 1.05),
            Bar("temporary memory (MiB)", table["ours"]["temporary_bytes"] / MIB, 64),
        ],
    )
