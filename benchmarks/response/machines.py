"""Whether an SRNN of which only the readout is trained is a kernel machine, on the kernel that the paper says.

Two ways to the same predictions. The network's way: simulate the mean states for every sequence, each with noise of its
own, and fit a linear readout by ridge regression. The kernel's way: the mean state is C φ(u), φ the response feature
and C its coefficients, which response kernels of the *undriven* network give; so solve for the weights of the training
sequences with the Gram matrix φᵀCᵀCφ, and simulate nothing that is driven. The more paths, the closer they should be.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import srnn
from benchmarks.response import kernels
from benchmarks.response.functionals import FUNCTIONALS
from benchmarks.response.signals import waves


@dataclasses.dataclass(frozen=True)
class Readout:
    """A network whose readout is trained on mean states, against the kernel machine.

    Attributes:
        seed: of network, sequences and noise.
        functional: what is learned, one of `FUNCTIONALS`.
        paths: how many for each sequence, ascending.
        hidden: units.
        sequences: to train on; as many again and half to test.
        steps: of a sequence.
        dt: units of time a step.
        amplitude: of the sequences.
        kernel_paths: for the kernels of order 1; an eighth of them for order 2.
        order: the highest polynomial of the feature.
        penalty: of the ridge regression, in mean variances of a state.
    """

    seed: int
    functional: str = "saturating"
    paths: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    hidden: int = 8
    sequences: int = 40
    steps: int = 16
    dt: float = 0.1
    amplitude: float = 0.5
    kernel_paths: int = 2**16
    order: int = 7
    penalty: float = 0.01


@dataclasses.dataclass(frozen=True)
class Gram:
    """The Gram matrix ∏ exp⟨ΔX, ΔY⟩ against inner products of explicit features, on finer and finer grids.

    Attributes:
        seed: of the sequences.
        refinements: into how many each step is divided, ascending.
        sequences: to train on; as many again to test.
        steps: of a sequence, before they are divided.
        depth: of the signatures.
        amplitude: of the sequences.
        penalty: of the ridge regression.
    """

    seed: int
    refinements: tuple[int, ...] = (1, 2, 4, 8)
    sequences: int = 30
    steps: int = 2
    depth: int = 4
    amplitude: float = 0.6
    penalty: float = 0.01


def measure_readout(one: Readout) -> dict[str, Any]:
    """How far the trained readout's predictions are from the kernel machine's, for each number of paths."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(one.seed), 4)
        model = kernels.tanh_srnn(keys[0], inputs=1, hidden=one.hidden)
        model = dataclasses.replace(model, input_kernel=2 * model.input_kernel)
        rng = np.random.default_rng([one.seed, 3])
        controls = waves(rng, 5 * one.sequences // 2, one.steps)
        targets = FUNCTIONALS[one.functional](controls)
        us = jnp.asarray(one.amplitude * controls)
        predicted = np.asarray(_predicted_states(model, us, one, keys[1], keys[2]))
        penalty = one.penalty * one.sequences * float(predicted[: one.sequences].var(axis=0).mean())
        machine = _by_kernel(predicted, targets, one.sequences, penalty)
        scale = float(machine.std())
        test = targets[one.sequences :]
        differences, errors = [], []
        for paths in one.paths:
            program = jax.jit(functools.partial(_mean_states, paths=paths, dt=one.dt))
            states = np.asarray(program(model, us, jax.random.fold_in(keys[3], paths)))
            said = _by_readout(states, targets, one.sequences, penalty)
            differences.append(float(np.sqrt(np.mean((said - machine) ** 2))) / scale)
            errors.append(float(np.mean((said - test) ** 2) / test.var()))
        slope = float(np.polyfit(np.log(one.paths), np.log(differences), 1)[0])
        return {
            "differences": differences,
            "slope": slope,
            "errors": errors,
            "machine_error": float(np.mean((machine - test) ** 2) / test.var()),
        }


def _predicted_states(model: srnn.SRNN, us: Array, one: Readout, first_key: Array, second_key: Array) -> Array:
    """What the kernels of every unit make of the feature of each sequence, (sequence, hidden)."""
    run: dict[str, Any] = {"t1": one.steps * one.dt, "dt": one.dt}
    edges = jnp.linspace(0.0, one.steps * one.dt, one.steps + 1)
    coefficients = []
    for unit in range(one.hidden):
        turned = _turned(model, unit)
        first = srnn.response_kernel(turned, _first_unit, key=first_key, paths=one.kernel_paths, **run)
        second = srnn.response_kernel(turned, _first_unit, order=2, key=second_key, paths=one.kernel_paths // 8, **run)
        coefficients.append(srnn.response_coefficients([first, second], edges, order=one.order))
    feature = functools.partial(srnn.response_feature, times=edges, order=one.order, depth=2)
    return jax.jit(jax.vmap(feature))(us) @ jnp.stack(coefficients).T


def _first_unit(state: Array) -> Array:
    return state[0]


def _turned(model: srnn.SRNN, unit: int) -> srnn.SRNN:
    """The same network with its units in another order, that one first: one program has the kernels of all."""
    order = np.roll(np.arange(len(model.bias)), -unit)
    return dataclasses.replace(
        model,
        decay=model.decay[order],
        recurrent_kernel=model.recurrent_kernel[order][:, order],
        bias=model.bias[order],
        input_kernel=model.input_kernel[:, order],
        noise_kernel=model.noise_kernel[order],
    )


def _mean_states(model: srnn.SRNN, us: Array, key: Array, *, paths: int, dt: float) -> Array:
    """(sequence, hidden), each sequence with noise of its own."""

    def one(driven: tuple[Array, Array]) -> Array:
        control, key = driven
        return srnn.simulate(model, control, key=key, paths=paths, t1=len(control) * dt, dt=dt).mean[0]

    return jax.lax.map(one, (us, jax.random.split(key, len(us))))


def _by_readout(states: np.ndarray, targets: np.ndarray, fit: int, penalty: float) -> np.ndarray:
    """Predictions for the sequences after the first `fit`, by weights of the states."""
    centred, mean = states - states[:fit].mean(axis=0), targets[:fit].mean()
    normal = centred[:fit].T @ centred[:fit] + penalty * np.eye(states.shape[1])
    return np.asarray(centred[fit:] @ np.linalg.solve(normal, centred[:fit].T @ (targets[:fit] - mean)) + mean)


def _by_kernel(features: np.ndarray, targets: np.ndarray, fit: int, penalty: float) -> np.ndarray:
    """The same, by weights of the training sequences and the Gram matrix alone."""
    centred, mean = features - features[:fit].mean(axis=0), targets[:fit].mean()
    gram = centred @ centred[:fit].T
    weights = np.linalg.solve(gram[:fit] + penalty * np.eye(fit), targets[:fit] - mean)
    return np.asarray(gram[fit:] @ weights + mean)


def measure_gram(one: Gram) -> dict[str, Any]:
    """How far ridge regression on explicit features is from the representer form with the Gram matrix."""
    with jax.enable_x64(True):
        rng = np.random.default_rng([one.seed, 4])
        controls = one.amplitude * waves(rng, 2 * one.sequences, one.steps)
        targets = FUNCTIONALS["product"](controls)
        scale = float(targets[one.sequences :].std())
        differences = []
        for parts in one.refinements:
            us = jnp.asarray(controls.repeat(parts, axis=1))
            edges = jnp.linspace(0.0, 1.0, us.shape[1] + 1)
            gram = np.asarray(srnn.response_gram(us, us, edges))
            program = jax.jit(functools.partial(_features, depth=one.depth))
            features = np.asarray(jax.lax.map(program, us[:, :, 0], batch_size=10))
            explicit = 1 + features @ features.T
            said, wanted = (_representer(matrix, targets, one) for matrix in (explicit, gram))
            differences.append(float(np.sqrt(np.mean((said - wanted) ** 2))) / scale)
        slope = float(np.polyfit(np.log(one.refinements), np.log(differences), 1)[0])
        return {"differences": differences, "slope": slope}


def _features(u: Array, *, depth: int) -> Array:
    """The signature of ∫ u ψ with ψ the indicators of the steps, orthonormal over a unit of time."""
    pushes = jnp.diag(u) / jnp.sqrt(len(u))
    return srnn.signature(jnp.concatenate([jnp.zeros_like(pushes[:1]), jnp.cumsum(pushes, axis=0)]), depth)


def _representer(gram: np.ndarray, targets: np.ndarray, one: Gram) -> np.ndarray:
    fit = one.sequences
    weights = np.linalg.solve(gram[:fit, :fit] + one.penalty * np.eye(fit), targets[:fit])
    return np.asarray(gram[fit:, :fit] @ weights)
