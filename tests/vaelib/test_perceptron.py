"""The perceptron against hand calculation, Novikoff's theorem and problems that no line can solve."""

import numpy as np
import pytest

from vaelib.perceptron import Perceptron, random_line, random_line_points

XOR = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]), np.array([0, 1, 1, 0])
AND = XOR[0], np.array([0, 0, 0, 1])


def test_example_of_the_first_post_gives_minus_one_half_and_class_zero():
    neuron = Perceptron(3)
    neuron.weights = np.array([0.5, 1.0, -1.0])
    assert neuron.score([1, 2, 3]) == -0.5
    assert neuron.predict([1, 2, 3]) == 0


def test_weights_start_at_zero_and_a_score_of_zero_is_class_zero():
    neuron = Perceptron(3)
    assert np.array_equal(neuron.weights, [0, 0, 0])
    assert neuron.predict([5, -7, 1]) == 0


@pytest.mark.parametrize(
    ("start", "target", "expected"),
    [
        ([0.0, 0.0, 0.0], 1, [0.5, -1.0, 0.25]),  # predicted 0, wanted 1: error 1
        ([1.0, 0.0, 0.0], 1, [1.0, 0.0, 0.0]),  # predicted 1, wanted 1: error 0
        ([0.0, 0.0, 0.0], 0, [0.0, 0.0, 0.0]),  # predicted 0, wanted 0: error 0
        ([1.0, 0.0, 0.0], 0, [0.5, 1.0, -0.25]),  # predicted 1, wanted 0: error -1
    ],
)
def test_one_update_is_error_times_input_times_rate(start, target, expected):
    neuron = Perceptron(3)
    neuron.weights = np.array(start)
    history = neuron.fit([2.0, -4.0, 1.0], target, 1, lambda i: 0.25)
    # Powers of two: the products are exact, so is the comparison.
    assert np.array_equal(neuron.weights, expected)
    assert history.errors.tolist() == [int(start != expected)]


def test_default_rate_is_one_hundredth_over_the_iteration_counted_from_one():
    # One point whose wanted class changes: w = 0.01, then 0.01 - 0.01/2, then right as it stands, then less 0.01/4.
    wanted = [1, 0, 1, 0]
    history = Perceptron(1).fit(lambda i: ([[1.0]], [wanted[i]]), iterations=4)
    np.testing.assert_allclose(history.weights[:, 0], [0, 0.01, 0.005, 0.005, 0.0025], rtol=1e-12)  # float64 rounding
    assert history.errors.tolist() == [1, 1, 0, 1]


def test_points_are_learnt_one_by_one_in_their_order():
    # By hand: (1, 1) is missed, w = (1, 1); (2, 1) scores 3 and is wrong, w = (-1, 0); (-1, 1) scores 1 and is right.
    history = Perceptron(2).fit([[1, 1], [2, 1], [-1, 1]], [1, 0, 1], 1, lambda i: 1.0)
    assert np.array_equal(history.weights, [[0, 0], [-1, 0]])
    assert history.errors.tolist() == [2]
    assert history.accuracy.tolist() == [2 / 3]  # the first point is wrong again under the final weights


@pytest.mark.parametrize("seed", range(10))
def test_mistakes_never_exceed_novikoffs_bound(seed):
    generator = np.random.default_rng(seed)
    line = random_line(generator)
    x, targets = random_line_points(300, line, generator, margin=0.05)
    history = Perceptron(3).fit(x, targets, 400, lambda i: 0.01)

    true_weights = np.array([-line[0], 1.0, -line[1]])
    gamma = np.min(np.abs(x @ true_weights)) / np.linalg.norm(true_weights)
    radius = np.max(np.linalg.norm(x, axis=1))
    assert 0 < history.errors.sum() <= (radius / gamma) ** 2
    assert history.errors[-1] == 0 and history.accuracy[-1] == 1.0


def test_scale_of_a_constant_rate_changes_no_prediction_when_weights_start_at_zero():
    generator = np.random.default_rng(0)
    x, targets = random_line_points(200, random_line(generator), generator)
    small = Perceptron(3).fit(x, targets, 20, lambda i: 2.0**-7)
    large = Perceptron(3).fit(x, targets, 20, lambda i: 4.0)
    # Both rates are powers of two: the two runs differ by an exact factor.
    assert np.array_equal(small.errors, large.errors)
    assert np.array_equal(small.weights * 2.0**9, large.weights)


def test_and_is_learnt_but_xor_never_reaches_zero_errors():
    assert Perceptron(3).fit(*AND, 50, lambda i: 1.0).errors[-1] == 0
    history = Perceptron(3).fit(*XOR, 500, lambda i: 1.0)
    assert history.errors.min() > 0
    assert history.accuracy.max() <= 0.75  # a line gets at most three of the four points


def test_line_off_the_origin_needs_the_bias():
    generator = np.random.default_rng(1)
    x, targets = random_line_points(500, (0.3, 0.5), generator, margin=0.02)
    with_bias = Perceptron(3).fit(x, targets, 300, lambda i: 1.0)
    without = Perceptron(2).fit(x[:, :2], targets, 300, lambda i: 1.0)
    assert with_bias.accuracy[-1] == 1.0
    assert without.errors.min() > 0 and without.accuracy.max() < 0.9


def test_fresh_points_with_the_posts_rate_find_the_line_though_errors_never_stay_zero():
    generator = np.random.default_rng(2)
    line = random_line(generator)
    neuron = Perceptron(3)
    history = neuron.fit(lambda i: random_line_points(1000, line, generator), iterations=40)
    x, targets = random_line_points(10_000, line, generator)
    # With 40,000 points seen, errors of some parts in a thousand remain; 2% is several times that.
    assert np.mean(neuron.predict(x) == targets) > 0.98
    assert history.errors[-10:].sum() > 0
    assert np.isfinite(history.weights).all()


def test_same_seed_gives_the_same_history():
    def run():
        generator = np.random.default_rng(3)
        line = random_line(generator)
        return Perceptron(3).fit(lambda i: random_line_points(50, line, generator), iterations=5)

    first, second = run(), run()
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.errors, second.errors)


def test_no_iteration_leaves_the_weights_and_an_empty_history():
    neuron = Perceptron(3)
    history = neuron.fit(*XOR, 0)
    assert history.weights.shape == (1, 3) and history.errors.shape == history.accuracy.shape == (0,)
    assert np.array_equal(neuron.weights, [0, 0, 0])


def test_empty_batch_has_no_predictions():
    assert Perceptron(3).predict(np.empty((0, 3))).shape == (0,)


def test_random_lines_leave_a_quarter_of_the_square_on_either_side():
    generator = np.random.default_rng(4)
    for _ in range(50):
        _, targets = random_line_points(2000, random_line(generator), generator)
        # The standard error of a share of 1/4 among 2,000 points is 0.0097; the limit lies five of them below.
        assert 0.2 < targets.mean() < 0.8


def test_points_keep_their_margin_and_are_classed_by_the_side_of_the_line():
    slope, intercept = -0.7, 0.2
    x, targets = random_line_points(1000, (slope, intercept), np.random.default_rng(5), margin=0.3)
    height = x[:, 1] - (slope * x[:, 0] + intercept)
    assert x.shape == (1000, 3) and np.all(x[:, 2] == 1) and np.all(np.abs(x) <= 1)
    assert np.array_equal(targets, (height > 0).astype(int))
    assert np.min(np.abs(height)) / np.sqrt(1 + slope**2) >= 0.3 - 1e-12  # the same distance, rounded otherwise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (0, 0)), "at least 1"),
        ((5, (0, 3)), "misses the square"),
        ((5, (np.nan, 0)), "finite"),
        ((5, (0, 0.5), np.random.default_rng(0), 0.3), "between 0 and 0.250"),
        ((5, (0, 0), np.random.default_rng(0), -0.1), "between 0 and"),
        ((5, (0, 0), np.random.default_rng(0), np.nan), "between 0 and"),
    ],
)
def test_impossible_points_are_refused(arguments, message):
    arguments = arguments if len(arguments) > 2 else (*arguments, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        random_line_points(*arguments)


@pytest.mark.parametrize(
    ("x", "targets", "keywords", "message"),
    [
        (XOR[0], [-1, 1, 1, -1], {}, r"\(t \+ 1\) / 2"),
        (XOR[0], [0, 1, 2, 0], {}, "must be 0 or 1"),
        (XOR[0], [0, 1, np.nan, 0], {}, "must be 0 or 1"),
        (XOR[0], [0, 1], {}, "4 points need"),
        (XOR[0], None, {}, "targets are missing"),
        (lambda i: XOR, [0, 1, 1, 0], {}, "leave targets out"),
        (XOR[0][:, :2], XOR[1], {}, "add the bias"),
        (np.zeros((2, 3, 3)), [0, 1], {}, "takes"),
        (np.empty((0, 3)), [], {}, "no points"),
        ([[0, 0, 1], [0, np.nan, 1]], [0, 1], {}, r"nan at index \(1, 1\)"),
        ([[0, np.inf, 1]], [0], {}, "inf at index"),
        (*XOR, {"iterations": -1}, "iterations"),
        (*XOR, {"iterations": 1.5}, "iterations"),
        (*XOR, {"learning_rate": lambda i: 0.0}, "positive"),
        (*XOR, {"learning_rate": lambda i: 1.0 - i, "iterations": 3}, "iteration 1"),
        (*XOR, {"learning_rate": lambda i: np.nan}, "positive"),
        (XOR[0] * 1e308, XOR[1], {"learning_rate": lambda i: 1e10}, "overflowed"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_bad_input_is_refused_and_leaves_the_weights_alone(x, targets, keywords, message):
    neuron = Perceptron(3)
    with pytest.raises(ValueError, match=message):
        neuron.fit(x, targets, **{"iterations": 1, **keywords})
    assert np.array_equal(neuron.weights, [0, 0, 0])


def test_constant_rate_is_refused_with_the_function_to_write():
    with pytest.raises(TypeError, match=r"lambda i: 0\.1"):
        Perceptron(3).fit(*XOR, 1, 0.1)


@pytest.mark.parametrize("n_inputs", [0, -1, 2.5, True])
def test_number_of_inputs_must_be_a_whole_number_of_at_least_one(n_inputs):
    with pytest.raises(ValueError, match="n_inputs"):
        Perceptron(n_inputs)
