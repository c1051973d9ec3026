import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import estimator_checks_generator

import srnn
from srnn.estimators import Reservoir, ResponseFeatures, ResponseKernel, SignatureFeatures

RAW = {"standardize": False}


@pytest.fixture
def ragged():
    """Two classes that differ in which of two pulses comes first."""
    random, cases, classes = np.random.default_rng(0), [], []
    for number in range(24):
        case = 0.05 * random.normal(size=(8 + number % 5, 2))
        case[1 + number % 2, number % 2], case[5, 1 - number % 2] = 1.0, 1.0
        cases.append(case)
        classes.append("ab"[number % 2])
    return cases, np.array(classes)


# with no exception; those of a reservoir compile a simulation for each of their shapes
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(SignatureFeatures(), id="signature"),
        pytest.param(ResponseFeatures(), id="features"),
        pytest.param(ResponseKernel(), id="kernel"),
        pytest.param(Reservoir(8, random_state=0), id="reservoir", marks=pytest.mark.slow),
        pytest.param(Reservoir(8, RidgeClassifier(), random_state=0), id="classifier", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks_pass(estimator, unchecked):
    passed = 0
    for one, check in estimator_checks_generator(estimator, mark="skip"):
        try:
            check(one)
        except pytest.skip.Exception:
            continue
        except Exception as error:
            if type(error).__name__ == "SkipTest":
                continue
            raise
        passed += 1
    assert passed >= 45


def test_signatures_of_ragged_series_are_those_of_each(ragged):
    cases, _ = ragged
    found = SignatureFeatures(depth=3, **RAW).fit(cases).transform(cases)
    for case, row in zip(cases, found, strict=True):
        time = np.arange(len(case))[:, None] / 11  # 1 for the longest, of 12 samples
        path = np.concatenate([np.zeros((1, 3)), np.concatenate([time, case], axis=1)])
        np.testing.assert_allclose(row, srnn.signature(jnp.asarray(path), 3), rtol=1e-12, atol=1e-14)  # float64


def test_a_path_that_does_not_move_has_a_signature_of_zeros():
    found = SignatureFeatures(add_time=False, base_point=False).fit_transform([np.ones((1, 2))])
    np.testing.assert_array_equal(found, np.zeros((1, 6)))


def test_lead_lag_holds_the_quadratic_variation():
    case = np.array([[0.0], [1.0], [-1.0], [2.0]])
    options = {"add_time": False, "base_point": False, "lead_lag": True} | RAW
    lead, lag = SignatureFeatures(2, **options).fit_transform([case, case])[0, 2:].reshape(2, 2)
    assert lead[1] - lag[0] == pytest.approx(1 + 4 + 9)  # twice the area between a path and its past


def test_response_features_are_those_of_the_library():
    controls, times = np.random.default_rng(1).normal(size=(3, 7, 2)), np.linspace(-1, 0, 8)
    found = ResponseFeatures(order=1, depth=2, **RAW).fit_transform(controls)
    for control, row in zip(controls, found, strict=True):
        wanted = srnn.response_feature(jnp.asarray(control), times, order=1, depth=2)
        np.testing.assert_allclose(row, wanted, rtol=1e-12, atol=1e-13)  # float64


@pytest.mark.parametrize("estimator", [ResponseFeatures(**RAW), ResponseKernel(2.0, **RAW)])
def test_before_a_series_begins_there_is_no_input(estimator):
    controls = np.random.default_rng(2).normal(size=(3, 8, 1))
    controls[1, :3] = 0
    found = estimator.fit(controls).transform([controls[0], controls[1, 3:]])
    np.testing.assert_allclose(found, estimator.transform(controls[:2]), rtol=1e-12, atol=1e-14)
    longer = np.concatenate([5 * np.ones((2, 1)), controls[0]])  # what is further back is left out
    np.testing.assert_allclose(estimator.transform([longer, longer[:4]])[0], found[0], rtol=1e-12, atol=1e-14)


def test_uneven_times_are_heeded():
    values, edges = np.array([[1.0], [-2.0], [0.5]]), np.array([0.0, 2.0, 3.0, 4.0])
    uneven = np.concatenate([edges[:3, None], values], axis=1)
    found = ResponseFeatures(times=0, **RAW).fit([uneven, uneven]).transform([uneven])[0]
    wanted = srnn.response_feature(jnp.asarray(values), edges / 4 - 1, order=2, depth=2)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    # the kernel with a series that is the same on a grid of four steps
    even = np.stack([np.arange(4.0), values[[0, 0, 1, 2], 0]], axis=1)
    gram = ResponseKernel(1.0, times=0, **RAW).fit([even, 0 * even + np.arange(4.0)[:, None]]).transform([uneven])
    np.testing.assert_allclose(gram[0, 0], 1, rtol=1e-12)
    assert gram[0, 1] < 0.5
    # and time as a channel of the path
    path = SignatureFeatures(times=0, **RAW).fit([uneven, uneven]).transform([uneven])[0]
    points = np.concatenate([np.zeros((1, 2)), uneven / [3.0, 1.0]])
    np.testing.assert_allclose(path, srnn.signature(jnp.asarray(points), 2), rtol=1e-12, atol=1e-14)


def test_missing_values_are_filled_in_time_or_told():
    whole = np.arange(6.0)[:, None] * [1.0, -2.0]
    gaps = whole.copy()
    gaps[2, 0] = gaps[3:5, 1] = np.nan
    filled = SignatureFeatures(missing="interpolate", **RAW).fit([whole, whole])
    np.testing.assert_allclose(*filled.transform([gaps, whole]), rtol=1e-12)  # straight lines, float64
    told = SignatureFeatures(1, missing="channel", add_time=False, **RAW).fit([gaps, whole])
    assert told.get_feature_names_out().tolist() == ["S(x0)", "S(x1)", "S(x0 missing)", "S(x1 missing)"]
    with pytest.raises(ValueError, match=r'X must be finite.*missing="interpolate"'):
        SignatureFeatures().fit([gaps, whole])


def test_what_is_masked_is_missing():
    series = np.random.default_rng(0).normal(size=(3, 6, 2))
    masked = np.ma.masked_array(series, mask=series > 1)
    estimator = SignatureFeatures(missing="interpolate")
    np.testing.assert_array_equal(
        estimator.fit_transform(masked), estimator.fit_transform(np.where(series > 1, np.nan, series))
    )
    with pytest.raises(ValueError, match="X must be finite"):
        SignatureFeatures().fit(masked)


def test_lists_of_lists_are_series(ragged):
    cases, _ = ragged
    wanted = SignatureFeatures().fit_transform(cases)
    np.testing.assert_array_equal(SignatureFeatures().fit_transform([case.tolist() for case in cases]), wanted)


def test_axes_the_other_way_round_and_tables_are_the_same_series(ragged):
    cases, _ = ragged
    for kind in (SignatureFeatures, ResponseFeatures, ResponseKernel):
        wanted = kind().fit_transform(cases)
        turned = kind(axes="channel-time").fit_transform([case.T for case in cases])
        np.testing.assert_allclose(turned, wanted, rtol=1e-12)
    table = np.random.default_rng(0).normal(size=(4, 6))
    np.testing.assert_allclose(
        SignatureFeatures().fit_transform(table), SignatureFeatures().fit_transform(table[:, :, None]), rtol=1e-12
    )


def test_names_are_the_words_in_order():
    series = np.random.default_rng(0).normal(size=(3, 5, 2))
    letters = ["time", "x0", "x1"]
    wanted = [f"S({', '.join(w)})" for k in (1, 2) for w in itertools.product(letters, repeat=k)]
    assert SignatureFeatures(2).fit(series).get_feature_names_out().tolist() == wanted
    responses = ResponseFeatures(1, 1).fit(series)
    assert responses.get_feature_names_out(["u", "v"]).tolist() == ["S(u·P0)", "S(u·P1)", "S(v·P0)", "S(v·P1)"]
    assert len(ResponseKernel().fit(series).get_feature_names_out()) == 3


def test_a_kernel_with_the_median_bandwidth_is_neither_flat_nor_the_identity():
    series = 30 * np.random.default_rng(0).normal(size=(20, 10, 2))
    kernel = ResponseKernel(**RAW).fit(series)
    gram = kernel.transform(series)
    apart = gram[~np.eye(20, dtype=bool)]
    assert np.median(apart) == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert np.linalg.eigvalsh(gram).min() > -1e-12
    edges = np.linspace(-1, 0, 11)
    wanted = srnn.response_gram(*[jnp.asarray(series / kernel.bandwidth_)] * 2, edges, normalize=True)
    np.testing.assert_allclose(gram, wanted, rtol=1e-10)
    assert ResponseKernel().fit(np.ones((3, 4, 1))).bandwidth_ == 1


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (make_pipeline(SignatureFeatures(), RidgeClassifier()), {"signaturefeatures__depth": [1, 3]}),
        (make_pipeline(ResponseFeatures(), RidgeClassifier()), {"responsefeatures__order": [0, 2]}),
        (make_pipeline(ResponseKernel(), SVC(kernel="precomputed")), {"responsekernel__bandwidth": ["median", 0.3]}),
    ],
    ids=["signature", "features", "kernel"],
)
def test_grid_search_in_a_pipeline_learns_which_pulse_came_first(estimator, grid, ragged):
    cases, classes = ragged
    search = GridSearchCV(estimator, grid, cv=3).fit(cases, classes)
    assert search.score(cases, classes) > 0.9
    assert clone(estimator).get_params().keys() == estimator.get_params().keys()


def test_a_reservoir_reads_out_its_own_mean_states(ragged):
    cases, classes = ragged
    reservoir = Reservoir(10, RidgeClassifier(), samples=2, random_state=3).fit(cases, classes)
    assert reservoir.score(cases, classes) > 0.9
    states = reservoir.transform(cases)
    assert states.shape == (24, 20)
    again = Reservoir(10, Ridge(), samples=2, random_state=3).fit(cases, states[:, 0])
    np.testing.assert_array_equal(again.transform(cases), states)
    # the state at the end of the longest series, by a simulation of its own
    longest = max(range(24), key=lambda i: len(cases[i]))
    control = jnp.asarray((cases[longest] - reservoir.mean_) / reservoir.scale_)
    options = {"key": reservoir._key, "paths": 2, "t1": 12 * 0.2, "dt": 0.2, "save_steps": (12,)}
    alone = srnn.simulate(reservoir.model_, control, **options)
    np.testing.assert_allclose(states[longest, 10:], alone.mean.ravel(), rtol=1e-9, atol=1e-12)


def test_bad_settings_and_series_are_refused(unchecked):
    series = np.random.default_rng(0).normal(size=(3, 5, 2))
    for bad, match in (
        (ResponseKernel(bandwidth=0), "bandwidth"),
        (ResponseKernel(bandwidth="mean"), "bandwidth"),
        (SignatureFeatures(depth=0), "depth"),
        (SignatureFeatures(axes="time"), "axes"),
        (SignatureFeatures(missing="drop"), "missing"),
        (ResponseFeatures(order=-1), "order"),
        (ResponseFeatures(times=2), "times"),
        (ResponseFeatures(times=0), "ascending times in channel 0"),
        (SignatureFeatures(depth=40), "depth = 40"),
        (Reservoir(4, dt=4.0), "dt = 4.0 must be at most twice decay_time"),
        (Reservoir(4, input_scale=float("nan")), "input_scale"),
    ):
        with pytest.raises(ValueError, match=match):
            bad.fit(series)
    with pytest.raises(ValueError, match=r"equally many channels.*\(5, 1\), \(5, 2\).*axes='time-channel'"):
        SignatureFeatures().fit([series[0], series[1][:, :1]])
    for bad, match in (
        (np.array([series[0], series[1][:3]], dtype=object), r"X must be one array.*list\(X\)"),
        (series[None], r"X must be one array \(case, time, channel\)"),
        ([[[1.0, 2.0], [3.0]]], "X must hold series"),
        (series + 1j, "X must hold real series"),
    ):
        with pytest.raises(ValueError, match=match):
            SignatureFeatures().fit(bad)
    with pytest.raises(ValueError, match="must have 2 channels"):
        SignatureFeatures().fit(series).transform(series[:, :, :1])
