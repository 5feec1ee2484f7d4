"""The model of learning curves: its gradient, and forecasts of curves that are known."""

from __future__ import annotations

import numpy as np
import pytest

from rnatracker.search.scheduling.curve_model import Array, CurveModel, Numbers, Points

_EPOCHS = 27
_SEEN = (2, 3, 4, 7, 10, 15, 23, 27)


def _value(setting: float, epoch: float) -> float:
    """What a training of our own comes to: the nearer its setting is to 0.6, the better, and it takes a while."""
    return (0.5 - (setting - 0.6) ** 2) * float(1 - np.exp(-epoch / 6))


def _points(reached: dict[float, int], factor: float = 1.0, shift: float = 0.0) -> Points:
    """Return the curves of settings up to the epoch that each has reached."""
    rows = [
        ([setting], float(epoch), number, factor * _value(setting, epoch) + shift)
        for number, (setting, last) in enumerate(reached.items())
        for epoch in _SEEN
        if epoch <= last
    ]
    settings, epochs, trainings, values = zip(*rows, strict=True)
    return Points(np.array(settings), np.array(epochs), np.array(trainings), np.array(values))


_COMPLETE = dict.fromkeys((0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0), _EPOCHS)


def _ends(model: CurveModel, settings: Array, trainings: Numbers) -> tuple[Array, Array]:
    mean, covariance = model.predict(settings, np.full(len(settings), float(_EPOCHS)), trainings)
    return mean, np.sqrt(np.diag(covariance))


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, keys = 40, 4
    epochs, trainings = rng.integers(1, _EPOCHS + 1, n).astype(float), rng.integers(0, 9, n)
    model = CurveModel(Points(rng.random((n, keys)), epochs, trainings, rng.random(n)), _EPOCHS)
    place = model.parameters + 0.3 * rng.normal(size=len(model.parameters))
    _, gradient = model._loss(place)
    step = 1e-5 * np.eye(len(place))
    differences = [(model._loss(place + each)[0] - model._loss(place - each)[0]) / 2e-5 for each in step]
    np.testing.assert_allclose(gradient, differences, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("setting", [0.2, 0.5, 0.8])
def test_unfinished_training_is_forecast_by_its_own_start_and_its_neighbours(setting: float) -> None:
    sds = []
    for reached in (2, 7, 15):
        model = CurveModel(_points({**_COMPLETE, setting: reached}), _EPOCHS)
        mean, sd = _ends(model, np.array([[setting]]), np.array([len(_COMPLETE)]))
        assert mean[0] == pytest.approx(_value(setting, _EPOCHS), abs=0.02)
        assert abs(mean[0] - _value(setting, _EPOCHS)) < 3 * sd[0] + 1e-3
        sds.append(sd[0])
    assert sds[0] > sds[1] > sds[2] > 0


def test_settings_that_nobody_has_tried_are_forecast_by_their_neighbours_and_less_surely() -> None:
    model = CurveModel(_points(_COMPLETE), _EPOCHS)
    (mean,), (sd,) = _ends(model, np.array([[0.52]]), np.array([99]))
    assert mean == pytest.approx(_value(0.52, _EPOCHS), abs=0.02)
    (_,), (known,) = _ends(model, np.array([[0.45]]), np.array([3]))
    assert sd > known
    (_,), (of_all,) = _ends(model, np.array([[0.52]]), np.array([-1]))
    assert of_all < sd  # without what is a training's own


def test_forecasts_tell_good_settings_from_bad_after_two_epochs() -> None:
    """After two epochs their values differ by less than a third of what they will."""
    reached = {0.02: 2, 0.57: 2}
    model = CurveModel(_points({**_COMPLETE, **reached}), _EPOCHS)
    n = len(_COMPLETE)
    (bad, good), _ = _ends(model, np.array([[0.02], [0.57]]), np.array([n, n + 1]))
    assert good - bad == pytest.approx(_value(0.57, _EPOCHS) - _value(0.02, _EPOCHS), abs=0.04)


def test_value_that_was_seen_is_predicted_at_its_place() -> None:
    points = _points({**_COMPLETE, 0.5: 10})
    model = CurveModel(points, _EPOCHS)
    mean, covariance = model.predict(points.settings, points.epochs, points.trainings)
    np.testing.assert_allclose(mean, points.values, atol=2e-3)
    assert np.sqrt(np.diag(covariance)).max() < 0.01


@pytest.mark.parametrize(("factor", "shift"), [(100.0, 0.0), (0.2, 0.0), (1.0, -7.0), (3.0, 40.0)])
def test_forecasts_scale_and_shift_with_the_values(factor: float, shift: float) -> None:
    """A loss in the hundreds is forecast like a correlation."""
    reached = {**_COMPLETE, 0.5: 4}
    settings, trainings = np.array([[0.5], [0.7]]), np.array([len(_COMPLETE), 99])
    mean, sd = _ends(CurveModel(_points(reached), _EPOCHS), settings, trainings)
    other, other_sd = _ends(CurveModel(_points(reached, factor, shift), _EPOCHS), settings, trainings)
    np.testing.assert_allclose(other, factor * mean + shift, rtol=1e-3, atol=1e-3 * factor)
    np.testing.assert_allclose(other_sd, factor * sd, rtol=0.05)


def test_covariance_is_one_and_two_trainings_of_the_same_settings_go_together() -> None:
    model = CurveModel(_points(_COMPLETE), _EPOCHS)
    settings, trainings = np.array([[0.5], [0.5], [0.52]]), np.array([50, 51, 52])
    _, covariance = model.predict(settings, np.full(3, float(_EPOCHS)), trainings)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert 0 < covariance[0, 1] < covariance[0, 0]


def test_one_point_is_enough_and_equal_values_are_no_trouble() -> None:
    one = Points(np.array([[0.3]]), np.array([2.0]), np.array([0]), np.array([0.4]))
    mean, sd = _ends(CurveModel(one, _EPOCHS), np.array([[0.3]]), np.array([0]))
    assert np.isfinite(mean).all() and (sd > 0).all()
    equal = Points(np.tile([[0.3], [0.6]], (3, 1)), np.repeat([1.0, 2, 3], 2), np.array([0, 1] * 3), np.full(6, 0.25))
    mean, sd = _ends(CurveModel(equal, _EPOCHS), np.array([[0.3], [0.6]]), np.array([0, 1]))
    np.testing.assert_allclose(mean, 0.25, atol=0.01)


def test_a_model_that_begins_at_another_ones_parameters_says_the_same() -> None:
    points = _points({**_COMPLETE, 0.5: 7})
    fresh = CurveModel(points, _EPOCHS)
    again = CurveModel(points, _EPOCHS, fresh.parameters)
    settings, trainings = np.array([[0.5], [0.7]]), np.array([len(_COMPLETE), 99])
    np.testing.assert_allclose(_ends(again, settings, trainings)[0], _ends(fresh, settings, trainings)[0], atol=5e-3)
