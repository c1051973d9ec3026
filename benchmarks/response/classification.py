"""Classification of sequences by what a stochastic RNN can make of them, without training one.

Every method is a scikit-learn pipeline that ends in ridge regression on the classes; its penalty and the scale of the
standardised input are chosen by the same cross-validation.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from typing import Any

import numpy as np

from benchmarks.response.signals import TASKS

PENALTIES = tuple(10.0**k for k in range(-6, 3))
FOLDS = 3
UNITS, PARTS = 150, 4  # of the reservoirs: how many units, and at how many times they are read


@dataclasses.dataclass(frozen=True)
class Classification:
    """A data set that is classified in several ways.

    Attributes:
        seed: of the folds of the cross-validation, and of the reservoirs.
        task: one of `TASKS`.
        scales: of the input, that are tried.
    """

    seed: int
    task: str
    scales: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)


def measure(one: Classification) -> dict[str, float]:
    """Test accuracy of each method, those of other libraries where they are installed."""
    from sklearn import model_selection  # a second to import, which sections that only need the kernels do without

    data = TASKS[one.task]()
    inputs, targets = (np.concatenate([data.train[i], data.validation[i]]) for i in range(2))
    mean, sd = inputs.mean(axis=(0, 1)), inputs.std(axis=(0, 1)) + 1e-12
    known, test = (inputs - mean) / sd, (np.asarray(data.test.inputs) - mean) / sd
    wanted = 2.0 * np.eye(max(targets.max(), np.max(data.test.targets)) + 1)[targets] - 1.0
    folds = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=one.seed)
    splits = list(folds.split(known, targets))
    found = {}
    for name, method in _methods(one.seed).items():
        with tempfile.TemporaryDirectory() as memory:
            pipeline, penalty = _pipeline(method, len(known), memory)
            grid = {"scale__kw_args": [{"by": scale} for scale in one.scales], **penalty}
            search = model_selection.GridSearchCV(pipeline, grid, scoring=_accuracy, cv=splits)
            found[name] = _accuracy(search.fit(known, wanted), test, np.eye(wanted.shape[1])[data.test.targets])
    return found


def _methods(seed: int) -> dict[str, Any]:
    """What makes features, or a kernel, of series (case, time, channel)."""
    from sklearn.preprocessing import FunctionTransformer

    from srnn.estimators import Reservoir, ResponseFeatures, ResponseKernel, SignatureFeatures

    methods = {
        "response gram": ResponseKernel(1.0, standardize=False),
        "response feature, ridge": ResponseFeatures(order=2, depth=2, standardize=False),
        "signature, ridge": SignatureFeatures(depth=2, standardize=False),
        "reservoir, ridge": Reservoir(UNITS, samples=PARTS, random_state=seed, standardize=False),
    }
    if importlib.util.find_spec("pysiglib"):
        methods["signature by pysiglib, ridge"] = FunctionTransformer(_by_pysiglib)
    if importlib.util.find_spec("reservoirpy"):
        methods["reservoir by reservoirpy, ridge"] = FunctionTransformer(_by_reservoirpy, kw_args={"seed": seed})
    return methods


def _pipeline(method: Any, count: int, memory: str) -> tuple[Any, dict[str, list[float]]]:
    """The method between a scale and ridge regression, and the penalties to try."""
    from sklearn import kernel_ridge, linear_model, preprocessing
    from sklearn.pipeline import Pipeline

    from srnn.estimators import ResponseKernel

    steps = [("scale", preprocessing.FunctionTransformer(_scaled, kw_args={"by": 1.0})), ("method", method)]
    if isinstance(method, ResponseKernel):
        steps.append(("ridge", kernel_ridge.KernelRidge(kernel="precomputed")))
        return Pipeline(steps, memory=memory), {"ridge__alpha": list(PENALTIES)}
    steps += [("standard", preprocessing.StandardScaler()), ("ridge", linear_model.Ridge())]
    return Pipeline(steps, memory=memory), {"ridge__alpha": [penalty * count for penalty in PENALTIES]}


def _scaled(series: np.ndarray, by: float) -> np.ndarray:
    return by * series


def _accuracy(fitted: Any, inputs: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean(fitted.predict(inputs).argmax(axis=1) == wanted.argmax(axis=1)))


def _by_pysiglib(series: np.ndarray) -> np.ndarray:
    """To depth 2, of the series beside time, from zero, as `SignatureFeatures` takes it."""
    import pysiglib

    times = np.broadcast_to(np.linspace(0.0, 1.0, series.shape[1])[None, :, None], (*series.shape[:2], 1))
    paths = np.concatenate([times, series], axis=2)
    from_zero = np.concatenate([np.zeros_like(paths[:, :1]), paths], axis=1)
    return np.asarray(pysiglib.sig(np.ascontiguousarray(from_zero), 2, n_jobs=1))


def _by_reservoirpy(series: np.ndarray, seed: int) -> np.ndarray:
    """The states at the same times as `Reservoir`'s, of as many units with the same radius and leak."""
    from reservoirpy.nodes import Reservoir

    states = np.asarray(Reservoir(UNITS, sr=0.9, lr=0.2 / 1.5, seed=seed).run(series))
    read = [max(1, series.shape[1] * part // PARTS) - 1 for part in range(1, PARTS + 1)]
    return states[:, read].reshape(len(series), -1)
