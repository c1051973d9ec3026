"""Signatures, response features and reservoirs as scikit-learn estimators, for `Pipeline` and `GridSearchCV`.

Needs scikit-learn: `pip install rnn-geometry[sklearn]`. Series come as one array (case, time, channel), or as a table
(case, time) of one channel, or as a list of arrays (time, channel) of any lengths. All estimators have four options
for reading them:

    axes          "time-channel", or "channel-time" as aeon's and sktime's arrays are.
    times         None where samples are evenly spaced; else which channel holds their times, ascending.
    missing       "refuse" NaN and what is masked; "interpolate" over them in time; or "channel", which also adds a
                  channel for each one that says where it was missing.
    standardize   whether each channel is brought to mean 0 and deviation 1 of the series that were fitted.

What is further in the past than the longest fitted series is left out by all but `SignatureFeatures`: they look back
from the end of a series, before whose beginning there is no input.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.linear_model import Ridge
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from maso_rnn import checks
from srnn.features import basis_integrals, response_gram
from srnn.model import SRNN, init
from srnn.signatures import count_features, of_increments
from srnn.simulation import simulate

LARGEST_BATCH = 128  # cases that are worked on together
MOST_PAIRED = 500  # cases whose distances the median heuristic takes


# settings are fields, and nothing else: scikit-learn reads them off the signature, and makes estimators again by them
_estimator = dataclasses.dataclass(eq=False, repr=False)


@_estimator
class _OfSeries(TransformerMixin, BaseEstimator):
    """What reads series: as the module says."""

    _: dataclasses.KW_ONLY
    axes: str = "time-channel"
    times: int | None = None
    missing: str = "refuse"
    standardize: bool = True

    def fit(self, X: Any, y: Any = None) -> _OfSeries:
        """Learn what is needed of the series `X`; `y` is not used."""
        self._learn(self._read(X, reset=True))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The features of each series, (case, feature)."""
        check_is_fitted(self)
        return self._of(self._read(X, reset=False))

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit` and `transform` of the same series, which are read once."""
        series = self._read(X, reset=True)
        self._learn(series)
        return self._of(series)

    def _learn(self, series: list[_Sampled]) -> None:
        raise NotImplementedError

    def _of(self, series: list[_Sampled]) -> np.ndarray:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != "refuse"
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _read(self, X: Any, *, reset: bool) -> list[_Sampled]:
        """The series, without gaps and standardised: the times and the values of each."""
        checks.choice("axes", self.axes, ("time-channel", "channel-time"))
        checks.choice("missing", self.missing, ("refuse", "interpolate", "channel"))
        checks.flag("standardize", self.standardize)
        sampled = [self._sampled(case) for case in self._cases(X, reset=reset)]
        if reset:
            joined = np.concatenate([values for _, values in sampled])
            known = np.isfinite(joined)
            count = np.maximum(known.sum(axis=0), 1)
            self.mean_ = np.where(known, joined, 0).sum(axis=0) / count
            self.scale_ = np.sqrt(np.where(known, (joined - self.mean_) ** 2, 0).sum(axis=0) / count)
            self.scale_[self.scale_ <= 1e-12 * np.abs(self.mean_)] = 1
            self.n_channels_ = joined.shape[1] * (1 + (self.missing == "channel"))
        if self.standardize:
            sampled = [(times, (values - self.mean_) / self.scale_) for times, values in sampled]
        return [(times, self._filled(times, values)) for times, values in sampled]

    def _cases(self, X: Any, *, reset: bool) -> list[np.ndarray]:
        """Each series as an array (time, channel)."""
        if not _is_series(X):
            finite: Any = True if self.missing == "refuse" else "allow-nan"
            table = validate_data(self, _unmasked(X), reset=reset, dtype=np.float64, ensure_all_finite=finite)
            return [row[:, None] for row in table]
        cases = [np.asarray(_unmasked(case)) for case in X]
        if any(np.iscomplexobj(case) for case in cases):
            raise ValueError("X must hold real series, got complex numbers")
        cases = [np.asarray(case if case.ndim > 1 else case[:, None], np.float64) for case in cases]
        if self.axes == "channel-time":
            cases = [case.T for case in cases]
        shapes = sorted({case.shape for case in cases})
        reading = f"series of shapes (time, channel) = {str(shapes)[1:-1]:.80}, with axes={self.axes!r}"
        if not cases or any(len(shape) != 2 or 0 in shape for shape in shapes) or len({s[1] for s in shapes}) > 1:
            raise ValueError(f"X must hold series with equally many channels, none of them empty, got {reading}")
        if reset:
            self.n_features_in_ = shapes[0][1]
        if shapes[0][1] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} channels, as it was fitted, got {reading}")
        if any(np.isinf(case).any() or (self.missing == "refuse" and np.isnan(case).any()) for case in cases):
            raise ValueError('X must be finite, got NaN or infinity; missing="interpolate" or "channel" takes NaN')
        return cases

    def _sampled(self, case: np.ndarray) -> _Sampled:
        if self.times is None:
            return np.arange(len(case), dtype=float), case
        channel = checks.size("times", self.times, least=0)
        if not channel < case.shape[1] > 1:
            raise ValueError(f"times = {channel} must be one of the channels, beside others; there are {case.shape[1]}")
        times = case[:, channel]
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise ValueError(f"X must have finite and ascending times in channel {channel}, got {times}")
        return times, np.delete(case, channel, axis=1)

    def _filled(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        lacks = np.isnan(values)
        filled = np.zeros_like(values)  # of a channel of which nothing is known
        for channel in np.flatnonzero(~lacks.all(axis=0)):
            known = ~lacks[:, channel]
            filled[:, channel] = np.interp(times, times[known], values[known, channel])
        return np.concatenate([filled, lacks], axis=1) if self.missing == "channel" else filled

    def _channel_names(self, input_features: Any) -> list[str]:
        """Of the channels after reading; of a table, whose columns are times, there is one."""
        check_is_fitted(self)
        given = _check_feature_names_in(self, input_features)
        own = self.n_channels_ // (1 + (self.missing == "channel"))
        named = [str(name) for number, name in enumerate(given) if number != self.times]
        names = named if len(named) == own and input_features is not None else [f"x{k}" for k in range(own)]
        return names + [f"{name} missing" for name in names] * (self.missing == "channel")


_Sampled = tuple[np.ndarray, np.ndarray]


def _is_series(X: Any) -> bool:
    """Whether `X` holds one array for each series, not one row of a table."""
    if isinstance(X, list | tuple):
        try:
            shapes = {np.shape(case) for case in X}
        except ValueError:
            raise ValueError("X must hold series (time, channel), got one whose rows are not equally long") from None
        return bool(shapes) and () not in shapes and (len(shapes) > 1 or len(min(shapes)) > 1)
    axes = getattr(X, "ndim", 2)
    if axes == 0 or axes > 3 or (axes == 1 and X.dtype == object and all(map(np.ndim, X))):
        raise ValueError(
            f"X must be one array (case, time, channel) or a list of series of any lengths, got an array of shape "
            f"{X.shape} and {X.dtype}; list(X) makes a list of it"
        )
    return bool(axes == 3)


def _unmasked(series: Any) -> Any:
    """NaN where a masked array is masked."""
    return np.ma.filled(series.astype(float), np.nan) if isinstance(series, np.ma.MaskedArray) else series


def _in_batches(function: Callable[[Any], Any], cases: list[np.ndarray]) -> np.ndarray:
    """A compiled function of each (step, channel), zeros appended so that few shapes are compiled."""
    steps = -(-max(1, *map(len, cases)) // 8) * 8
    batch = min(LARGEST_BATCH, 1 << (len(cases) - 1).bit_length())
    program, found = jax.vmap(function), []
    for start in range(0, len(cases), batch):
        padded = np.zeros((batch, steps, cases[0].shape[1]), jax.dtypes.canonicalize_dtype(float))
        for row, case in zip(padded, cases[start : start + batch], strict=False):
            row[: len(case)] = case
        found.append(np.asarray(program(padded), np.float64))
    return np.concatenate(found)[: len(cases)]


def _signatures(increments: list[np.ndarray], depth: int) -> np.ndarray:
    return _in_batches(lambda x: of_increments(x, depth), increments)


def _words(letters: list[str], depth: int) -> np.ndarray:
    words = itertools.chain.from_iterable(itertools.product(letters, repeat=k) for k in range(1, depth + 1))
    return np.array([f"S({', '.join(word)})" for word in words], dtype=object)


@_estimator
class SignatureFeatures(_OfSeries):
    """The signature of each series, as features that see in which order things happen.

    Args:
        depth: the highest level.
        add_time: whether time is the first channel, 1 for the longest fitted series.
        lead_lag: whether each channel is doubled with its own past, which shows its quadratic variation.
        base_point: whether paths start from zero, which shows where a series starts.
        axes: as the module says; so are the rest.
        times: which channel holds the times.
        missing: what to do about NaN.
        standardize: whether channels are standardised.

    Example:
        >>> from sklearn.linear_model import RidgeClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> rising_or_falling = np.arange(10) % 2
        >>> ragged = [(-1) ** n * np.linspace(0, n, n)[:, None] for n in range(10, 20)]
        >>> classifier = make_pipeline(SignatureFeatures(depth=3), RidgeClassifier())
        >>> classifier.fit(ragged, rising_or_falling).score(ragged, rising_or_falling)
        1.0
    """

    depth: int = 2
    _: dataclasses.KW_ONLY
    add_time: bool = True
    lead_lag: bool = False
    base_point: bool = True

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The words of channels, such as "S(time, x0)"."""
        return _words(self._letters(input_features), self.depth)

    def _letters(self, input_features: Any = None) -> list[str]:
        names = self._channel_names(input_features)
        if self.lead_lag:
            names = [f"{name} {side}" for side in ("lead", "lag") for name in names]
        return ["time"] * self.add_time + names

    def _learn(self, series: list[_Sampled]) -> None:
        depth = checks.size("depth", self.depth)
        for name in ("add_time", "lead_lag", "base_point"):
            checks.flag(name, getattr(self, name))
        count_features("depth", self.add_time + self.n_channels_ * (1 + self.lead_lag), depth)
        self.duration_ = max(times[-1] - times[0] for times, _ in series) or 1.0

    def _of(self, series: list[_Sampled]) -> np.ndarray:
        return _signatures([self._increments(*case) for case in series], self.depth)

    def _increments(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        times = (times - times[0])[:, None] / self.duration_
        if self.base_point:
            times, values = (np.concatenate([np.zeros_like(a[:1]), a]) for a in (times, values))
        if self.lead_lag:
            times, twice = (np.repeat(a, 2, axis=0) for a in (times, values))
            times, values = times[:-1], np.concatenate([twice[1:], twice[:-1]], axis=1)
        return np.diff(np.concatenate([times, values], axis=1) if self.add_time else values, axis=0)


class _OfControls(_OfSeries):
    """What takes series for inputs, constant over each step, on a clock on which they end at 0."""

    def _learn(self, series: list[_Sampled]) -> None:
        self.steps_ = max(len(times) for times, _ in series)
        self.duration_ = max(np.ptp(_step_edges(times)) for times, _ in series)

    def _clock(self, times: np.ndarray) -> np.ndarray:
        """The edges of the steps: from −1, where the longest fitted series begins, to 0."""
        edges = _step_edges(times)
        return np.maximum((edges - edges[-1]) / self.duration_, -1.0)

    def _on_grid(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The means over each of the equal steps of the longest fitted series, zero before the beginning."""
        edges = self._clock(times)
        sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values * np.diff(edges)[:, None], axis=0)])
        grid = np.linspace(-1.0, 0.0, self.steps_ + 1)
        integrals = np.stack([np.interp(grid, edges, channel) for channel in sums.T], axis=1)
        return np.diff(integrals, axis=0) * self.steps_


def _step_edges(times: np.ndarray) -> np.ndarray:
    """Where steps begin, and where the last one ends: it is as long as the one before it."""
    return np.append(times, 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1)


@_estimator
class ResponseFeatures(_OfControls):
    """The response feature of each series: what a stochastic RNN driven by it can make of it, linearly.

    Args:
        order: the highest degree of the polynomials in time.
        depth: the highest order of the Volterra series.
        axes: as the module says; so are the rest.
        times: which channel holds the times.
        missing: what to do about NaN.
        standardize: whether channels are standardised.

    Example:
        >>> series = np.random.default_rng(0).normal(size=(5, 12, 2))
        >>> ResponseFeatures(order=1, depth=2).fit_transform(series).shape
        (5, 20)
    """

    order: int = 2
    depth: int = 2

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The words of channels by polynomials, such as "S(x0·P0, x0·P1)"."""
        names = self._channel_names(input_features)
        return _words([f"{name}·P{m}" for name in names for m in range(self.order + 1)], self.depth)

    def _learn(self, series: list[_Sampled]) -> None:
        order, depth = checks.size("order", self.order, least=0), checks.size("depth", self.depth)
        count_features("depth", self.n_channels_ * (order + 1), depth)
        super()._learn(series)

    def _of(self, series: list[_Sampled]) -> np.ndarray:
        return _signatures([self._increments(*case) for case in series], self.depth)

    def _increments(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        basis = basis_integrals(np.concatenate([[-1.0], self._clock(times)]), self.order)[1:]
        return np.einsum("ki,km->kim", values, basis).reshape(len(values), -1)


@_estimator
class ResponseKernel(ClassNamePrefixFeaturesOutMixin, _OfControls):
    """How alike series are to a stochastic RNN: the normalised response kernel with each fitted series.

    Equation: exp(−∫|u − v|² dt / (2 bandwidth²)), time in units of the longest fitted series. What comes of it goes
    into an estimator with `kernel="precomputed"`, such as `SVC` or `KernelRidge`.

    Args:
        bandwidth: in units of the standardised series; or "median", of the distances between fitted series.
        axes: as the module says; so are the rest.
        times: which channel holds the times.
        missing: what to do about NaN.
        standardize: whether channels are standardised.

    Example:
        >>> series = np.random.default_rng(0).normal(size=(5, 12, 2))
        >>> ResponseKernel().fit(series).transform(series[:2]).shape
        (2, 5)
    """

    bandwidth: float | str = "median"

    def _learn(self, series: list[_Sampled]) -> None:
        super()._learn(series)
        controls = np.stack([self._on_grid(*case) for case in series])
        if isinstance(self.bandwidth, str):
            checks.choice("bandwidth", self.bandwidth, ("median",))
            self.bandwidth_ = _median_distance(controls)
        else:
            self.bandwidth_ = checks.number("bandwidth", self.bandwidth, above=0)
        self.controls_, self._n_features_out = controls, len(controls)

    def _of(self, series: list[_Sampled]) -> np.ndarray:
        controls = np.stack([self._on_grid(*case) for case in series])
        edges = np.linspace(-1.0, 0.0, self.steps_ + 1)
        a, b = controls / self.bandwidth_, self.controls_ / self.bandwidth_
        return np.asarray(response_gram(jnp.asarray(a), jnp.asarray(b), edges, normalize=True), np.float64)


def _median_distance(controls: np.ndarray) -> float:
    """(∫|u − v|² dt)^½, the median over pairs of cases, evenly taken where there are many; 1 where all are alike."""
    chosen = controls[np.linspace(0, len(controls) - 1, min(len(controls), MOST_PAIRED)).astype(int)]
    rows = chosen.reshape(len(chosen), -1) / np.sqrt(controls.shape[1])
    distances = np.concatenate([np.linalg.norm(rows[i + 1 :] - row, axis=1) for i, row in enumerate(rows)])
    return float(np.median(distances)) or 1.0 if distances.size else 1.0


def _readout_has(name: str) -> Callable[[Any], bool]:
    return lambda self: hasattr(self._readout(), name)


@_estimator
class Reservoir(ClassNamePrefixFeaturesOutMixin, _OfControls):
    """A random stochastic RNN, not trained, with a trained readout of its mean states.

    Args:
        hidden: how many units.
        readout: any estimator for the states, such as `RidgeClassifierCV()`; `Ridge()` by default.
        radius: the spectral radius of the recurrent weights.
        input_scale: what the series are multiplied by.
        decay_time: of a unit left alone, in steps of the series times `dt`.
        noise: the scale of the noise.
        dt: time from one step of the series to the next.
        samples: at how many times, evenly to the end, states are taken.
        paths: over how many paths of the noise they are averaged.
        random_state: an integer, for the same network each time.
        axes: as the module says; so are the rest.
        times: which channel holds the times.
        missing: what to do about NaN.
        standardize: whether channels are standardised.

    Example:
        >>> series = np.random.default_rng(0).normal(size=(20, 8, 1))
        >>> Reservoir(16, random_state=0).fit(series, series.mean(axis=(1, 2))).predict(series[:3]).shape
        (3,)
    """

    hidden: int = 100
    readout: Any = None
    _: dataclasses.KW_ONLY
    radius: float = 0.9
    input_scale: float = 1.0
    decay_time: float = 1.5
    noise: float = 0.02
    dt: float = 0.2
    samples: int = 4
    paths: int = 2
    random_state: Any = None

    def __sklearn_tags__(self) -> Any:
        tags, readout = super().__sklearn_tags__(), get_tags(self._readout())
        tags.estimator_type, tags.target_tags = readout.estimator_type, readout.target_tags
        tags.classifier_tags, tags.regressor_tags = readout.classifier_tags, readout.regressor_tags
        return tags

    def fit(self, X: Any, y: Any = None) -> Reservoir:
        """Draw the network, and fit the readout to `y`."""
        self.readout_ = clone(self._readout())
        self.readout_.fit(super().fit_transform(X), y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit` and `transform` of the same series."""
        return self.fit(X, y).transform(X)

    def predict(self, X: Any) -> np.ndarray:
        """What the readout says of each series."""
        states = self.transform(X)
        return self.readout_.predict(states)

    @available_if(_readout_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities that the readout gives."""
        states = self.transform(X)
        return self.readout_.predict_proba(states)

    @available_if(_readout_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """The scores that the readout gives."""
        states = self.transform(X)
        return self.readout_.decision_function(states)

    def score(self, X: Any, y: Any) -> float:
        """The readout's own score: R² or accuracy."""
        states = self.transform(X)
        return float(self.readout_.score(states, y))

    @property
    def classes_(self) -> Any:
        """Those of the readout, where it is a classifier."""
        return self.readout_.classes_

    def _readout(self) -> Any:
        return Ridge() if self.readout is None else self.readout

    def _learn(self, series: list[_Sampled]) -> None:
        super()._learn(series)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        model_key, self._key = jax.random.split(jax.random.key(seed))
        size = checks.size("hidden", self.hidden)
        checks.number("input_scale", self.input_scale)
        if checks.number("dt", self.dt, above=0) > 2 * checks.number("decay_time", self.decay_time, above=0):
            raise ValueError(f"dt = {self.dt} must be at most twice decay_time = {self.decay_time}, or states grow")
        self.model_ = init(
            model_key, self.n_channels_, size, radius=self.radius, decay_time=self.decay_time, noise=self.noise
        )
        count = min(checks.size("samples", self.samples), self.steps_)
        self._saved = tuple(self.steps_ * part // count for part in range(1, count + 1))
        self._n_features_out = size * count

    def _of(self, series: list[_Sampled]) -> np.ndarray:
        controls = [self.input_scale * self._on_grid(*case) for case in series]
        options = {"paths": self.paths, "steps": self.steps_, "dt": self.dt, "saved": self._saved}
        return _in_batches(lambda control: _mean_states(self.model_, control, self._key, **options), controls)


@functools.partial(jax.jit, static_argnames=("paths", "steps", "dt", "saved"))
def _mean_states(
    model: SRNN, control: jax.Array, key: jax.Array, *, paths: int, steps: int, dt: float, saved: tuple[int, ...]
) -> jax.Array:
    run = simulate(model, control[:steps], key=key, paths=paths, t1=steps * dt, dt=dt, save_steps=saved)
    return run.mean.ravel()
