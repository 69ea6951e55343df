"""How far to trust scores: each number against a reference, or a simulation of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tiny import trust

from engines.uncertainty.conformal import Conformal, abstentions, guaranteed, measured_coverage
from engines.uncertainty.drift import Drift, usual_means
from engines.uncertainty.fitted import Trust
from engines.uncertainty.ood import ColourSpace, FeatureSpace, together
from engines.uncertainty.pooling import Pooled
from engines.uncertainty.prevalence import WEIGHTS, ErrorRates, predictive_rates


def beta(rng, mean, likeness, size):
    """Draw people's rates, of a mean and an intraclass correlation."""
    total = 1 / likeness - 1
    return rng.beta(mean * total, (1 - mean) * total, size)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [3, 19, 20, 200])
def test_of_equal_subjects_the_quantile_is_that_of_split_conformal_prediction(count, level):
    """The ceil((n + 1) level)-th smallest of n, or none."""
    scores = np.random.default_rng(0).permutation(count).astype(float)
    rank = int(np.ceil((count + 1) * level - 1e-9))

    found = Pooled.of(scores, np.arange(count)).quantile(level)

    assert found == (rank - 1 if rank <= count else np.inf)


def test_of_equal_subjects_the_p_value_is_the_conformal_one():
    """(1 + #{at or above}) / (n + 1)."""
    pooled = Pooled.of(np.array([1.0, 2, 2, 3]), np.arange(4))

    assert pooled.p_values(np.array([0.0, 2, 3, 4])) == pytest.approx([1, 4 / 5, 2 / 5, 1 / 5])


def test_every_subject_counts_the_same():
    """A hundred cells of one person weigh no more than one of another."""
    scores = np.array([*range(100), 1000.0])
    pooled = Pooled.of(scores, np.array([0] * 100 + [1]))

    assert pooled.p_values(np.array([500.0])) == pytest.approx((1 + 101 / 2) / 102)
    assert pooled.quantile(0.49) < 100 < pooled.quantile(0.51)


def test_p_values_are_uniform_when_nothing_is_strange():
    """Over fresh subjects of the same kind; Kolmogorov and Smirnov find nothing."""
    rng = np.random.default_rng(1)
    owners = np.repeat(np.arange(50), 40)
    pooled = Pooled.of(rng.normal(size=2000), owners)

    found = pooled.p_values(rng.normal(size=2000))

    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert found.min() > 0
    assert found.max() <= 1


def test_scores_that_are_no_numbers_do_not_count():
    """A cell without foreground says nothing of colour."""
    known = Pooled.of(np.array([1.0, 2]), np.array([0, 1]))
    mixed = Pooled.of(np.array([1.0, np.nan, 2]), np.array([0, 0, 1]))

    assert np.array_equal(known.scores, mixed.scores)
    assert np.array_equal(known.below, mixed.below)


def chances_of(logit):
    """Return two classes' probabilities."""
    one = 1 / (1 + np.exp(-logit))
    return np.stack([one, 1 - one], 1).astype(np.float32)


def simulated_cells(rng, subjects, each, between=0.7):
    """Simulate subjects of one class each, alike within and different between."""
    owners = np.repeat(np.arange(subjects), each)
    truth = owners % 2
    shift = rng.normal(0, between, subjects)[owners]
    return chances_of((1 - 2 * truth) * 1.5 + shift + rng.normal(size=len(truth))), truth, owners


def test_sets_hold_the_truth_of_new_subjects_as_often_as_asked():
    """Class by class, over many draws of held-out and of new people."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(200):
        fitted = Conformal.fitted(*simulated_cells(rng, 60, 20), 0.9)
        chances, truth, _ = simulated_cells(rng, 40, 20)
        sets = fitted.sets(chances)
        held.append([sets[truth == c, c].mean() for c in (0, 1)])

    error = np.std(held, axis=0) / np.sqrt(len(held))
    assert np.mean(held, axis=0) == pytest.approx([0.9, 0.9], abs=max(4 * error.max(), 0.012))


def test_few_subjects_are_promised_little_and_get_no_less():
    """With five people of each class, coverage stays above what is certain."""
    rng = np.random.default_rng(3)
    held = []
    for _ in range(300):
        fitted = Conformal.fitted(*simulated_cells(rng, 10, 20, between=1.5), 0.9)
        chances, truth, _ = simulated_cells(rng, 10, 20, between=1.5)
        held.append(fitted.sets(chances)[np.arange(len(truth)), truth].mean())

    assert guaranteed(0.9, 5) == pytest.approx(0.75)
    assert np.mean(held) > guaranteed(0.9, 5)


def test_more_coverage_gives_larger_sets():
    """And a class without held-out cells is never left out."""
    rng = np.random.default_rng(4)
    chances, truth, owners = simulated_cells(rng, 20, 20)
    sizes = [Conformal.fitted(chances, truth, owners, c).sets(chances).sum() for c in (0.6, 0.9)]
    blind = Conformal.fitted(chances[truth == 0], truth[truth == 0], owners[truth == 0], 0.9)

    assert sizes[0] < sizes[1]
    assert blind.sets(chances)[:, 1].all()


def test_measured_coverage_judges_each_subject_by_the_others():
    """It sees the person that the pooled quantile hides."""
    chances = chances_of(np.array([3.0] * 40 + [-3.0] * 10))
    owners = np.repeat(np.arange(5), 10)

    (held, missing) = measured_coverage(chances, np.zeros(50, int), owners, 0.75)

    assert held == pytest.approx(4 / 5)
    assert missing is None


def test_a_cell_is_abstained_from_unless_one_class_is_left():
    """Two classes, or none."""
    sets = np.array([[True, False], [True, True], [False, False]])

    assert abstentions(sets).tolist() == [False, True, True]


def test_distances_are_mahalanobis():
    """With every direction kept, against the covariance's inverse."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))
    truth = np.repeat([0, 1], 250)
    features[truth == 1] += 5
    centres = np.stack([features[truth == c].mean(0) for c in (0, 1)])
    within = features - centres[truth]
    inverse = np.linalg.inv(within.T @ within / (len(within) - 2))
    new = rng.normal(size=(20, 6)) * 4
    offsets = new[:, None] - centres
    expected = np.sqrt(np.einsum("ncf,fg,ncg->nc", offsets, inverse, offsets).min(1) / 6)

    found = FeatureSpace.fitted(features, truth).distances(new)

    assert found == pytest.approx(expected, rel=1e-3)


def test_a_training_cell_is_about_one_away():
    """Also where there are more features than directions kept."""
    rng = np.random.default_rng(6)
    space = FeatureSpace.fitted(rng.normal(size=(3000, 200)), np.zeros(3000, int))

    assert space.distances(rng.normal(size=(500, 200))).mean() == pytest.approx(1, abs=0.05)


def test_features_beyond_all_bounds_are_the_strangest():
    """Half precision may overflow; that is no reason to call a cell usual."""
    space = FeatureSpace.fitted(np.random.default_rng(0).normal(size=(50, 4)), np.zeros(50, int))

    found = space.distances(np.array([[np.inf] * 4, [np.nan] * 4, [0.0] * 4], np.float16))

    assert np.isinf(found[:2]).all()
    assert np.isfinite(found[2])


def test_colour_distances_are_mahalanobis():
    """NaN stays NaN: a cell without foreground has no colour."""
    rng = np.random.default_rng(7)
    colours = rng.normal(0.5, 0.2, (400, 6))
    new = rng.normal(0.5, 0.2, (5, 6))
    inverse = np.linalg.inv(np.cov(colours.T))
    expected = np.sqrt(
        np.einsum("ni,ij,nj->n", new - colours.mean(0), inverse, new - colours.mean(0))
    )
    new = np.concatenate([new, np.full((1, 6), np.nan)])

    found = ColourSpace.fitted(colours).distances(new)

    assert found[:5] == pytest.approx(expected, rel=0.01)
    assert np.isnan(found[5])


def test_both_distances_count_the_same_and_a_crop_without_foreground_is_no_cell():
    """A training cell is about one away in either; far in one is far."""
    one, far, none = together(np.array([1, 1, 1]), np.sqrt(6) * np.array([1, 7, np.nan]))

    assert one == pytest.approx(1)
    assert far == pytest.approx(5)
    assert np.isinf(none)


def test_strangers_are_held_against_both_distances_of_held_out_cells():
    """What is usual is measured as a new cell is."""
    made, rng = trust(2, 16), np.random.default_rng(3)
    features, optical = rng.normal(size=(9, 16)), rng.normal(0.5, 0.1, (9, 6))

    found = made.distances(features, optical)

    assert found == pytest.approx(
        together(made.features.distances(features), made.colours.distances(optical))
    )
    held = made.held_out
    assert np.array_equal(held.distances, together(held.strangeness, held.stain_shift))
    assert made.usual_strangeness.p_values(held.distances.max()[None])[0] <= 0.05


def test_trust_data_survives_its_file():
    """The same bytes for the same numbers, and the same numbers for the same bytes."""
    made = trust(2, 16)
    again = Trust.from_bytes(made.to_bytes(), 2)

    assert again.to_bytes() == made.to_bytes()
    assert np.array_equal(again.held_out.logits, made.held_out.logits)


@pytest.mark.parametrize("data", [b"", b"no such file", trust(3, 16).to_bytes()])
def test_a_file_that_means_nothing_is_refused(data):
    """Not a safetensors file, or one of another number of classes."""
    with pytest.raises(ValueError, match=r"trust\.safetensors"):
        Trust.from_bytes(data, 2)


def test_a_rate_known_from_many_alike_people_is_that_rate():
    """And of nobody, anything."""
    sure = predictive_rates(np.full(60, 90), np.full(60, 100))
    unknown = predictive_rates(np.array([], int), np.array([], int))

    assert sure @ WEIGHTS == pytest.approx(0.9, abs=0.01)
    assert sure[-3] - sure[2] < 0.25
    assert unknown[2] < 0.05
    assert unknown[-3] > 0.95


def simulated_rates(rng, people, true_rate, false_rate, likeness):
    """Simulate what held-out people show of a model's error rates."""
    found = []
    for mean in (true_rate, false_rate):
        cells = rng.integers(20, 200, people)
        found.append(
            predictive_rates(rng.binomial(cells, beta(rng, mean, likeness, people)), cells)
        )
    return ErrorRates(*found)


@pytest.mark.parametrize(
    ("people", "true_rate", "false_rate", "likeness"),
    [(5, 0.75, 0.3, 0.2), (10, 0.9, 0.1, 0.05), (30, 0.85, 0.15, 0.1)],
)
def test_intervals_of_slides_hold_the_true_share(people, true_rate, false_rate, likeness):
    """Over simulated people, slides and shares; a slide has its own error rates."""
    rng = np.random.default_rng(8)
    held = []
    for _ in range(40):
        rates = simulated_rates(rng, people, true_rate, false_rate, likeness)
        for _ in range(12):
            share, cells = rng.uniform(), int(rng.integers(50, 500))
            positive = rng.binomial(cells, share)
            called = rng.binomial(positive, beta(rng, true_rate, likeness, 1)[0])
            called += rng.binomial(cells - positive, beta(rng, false_rate, likeness, 1)[0])
            low, high = rates.interval(int(called), cells)
            held.append(low <= share <= high)

    by_model = np.reshape(held, (40, 12)).mean(1)
    assert by_model.mean() > 0.95 - 3 * by_model.std() / np.sqrt(len(by_model))


def test_a_model_that_never_errs_leaves_the_cells_own_doubt():
    """With perfect rates the interval is Clopper and Pearson's."""
    perfect = ErrorRates(np.ones(len(WEIGHTS)), np.zeros(len(WEIGHTS)))
    exact = stats.binomtest(30, 100).proportion_ci(0.95, method="exact")

    assert perfect.interval(30, 100) == pytest.approx((exact.low, exact.high), abs=0.005)
    assert perfect.share(30, 100) == pytest.approx(0.3)


def test_the_estimate_is_rogan_and_gladens():
    """(called - false rate) / (sensitivity - false rate), kept within 0 and 1."""
    known = ErrorRates(np.full(len(WEIGHTS), 0.9), np.full(len(WEIGHTS), 0.2))
    chance = ErrorRates(np.full(len(WEIGHTS), 0.5), np.full(len(WEIGHTS), 0.5))

    assert known.share(55, 100) == pytest.approx((0.55 - 0.2) / 0.7)
    assert known.share(10, 100) == 0
    assert chance.share(50, 100) is None
    assert chance.interval(50, 100) == (0, 1)


def test_more_cells_do_not_make_people_alike():
    """The interval does not shrink below the difference between people."""
    rates = simulated_rates(np.random.default_rng(9), 10, 0.85, 0.15, 0.1)
    widths = [np.diff(rates.interval(cells // 2, cells))[0] for cells in (100, 10_000, 1_000_000)]

    assert widths[1] > 0.8 * widths[0]
    assert widths[2] > 0.95 * widths[1]


def test_whatever_is_counted_has_an_interval():
    """Also counts that hardly any share explains; more called never means fewer positive."""
    rates = simulated_rates(np.random.default_rng(10), 10, 0.9, 0.3, 0.05)
    found = np.array([rates.interval(called, 60) for called in range(61)])

    assert (found >= 0).all()
    assert (found <= 1).all()
    assert (np.diff(found, axis=1) > 0).all()
    assert (np.diff(found, axis=0) >= -0.01).all()


def drift_of(rng, shift, slides=12):
    """Measure the drift of slides whose cells lie farther out by *shift*."""
    owners = np.repeat(np.arange(10), 50)
    scores = rng.normal(size=500) + rng.normal(0, 0.3, 10)[owners]
    pooled, usual = Pooled.of(scores, owners), usual_means(scores, owners)
    means = [
        pooled.p_values(rng.normal(size=50) + rng.normal(0, 0.3) + shift).mean()
        for _ in range(slides)
    ]
    return Drift.measured((np.array(means), usual), (np.full(slides, np.nan), usual))


def test_drift_is_a_half_when_there_is_none_and_one_when_all_is_strange():
    """The effect size is an AUC; it does not grow with the number of slides."""
    rng = np.random.default_rng(11)
    none, some, all_ = (drift_of(rng, shift) for shift in (0, 1.2, 6))

    assert none.value == pytest.approx(0.5, abs=0.1)
    assert none.verdict == "like training"
    assert none.p > 0.01
    assert some.verdict == "differs from training"
    assert some.value == pytest.approx(stats.norm.cdf(1.2 / np.sqrt(2 * 1.09)), abs=0.07)
    assert all_.value > 0.98
    assert all_.verdict == "out of its depth"
    assert all_.p < 0.001
    assert all_.colour is None


def test_the_test_of_drift_seldom_cries_wolf():
    """Of runs like training, at most about one in twenty has p below 0.05."""
    rng = np.random.default_rng(12)

    assert np.mean([drift_of(rng, 0).p < 0.05 for _ in range(200)]) < 0.09


def test_without_a_slide_there_is_no_drift_to_tell():
    """Nothing was scored."""
    usual = np.array([0.4, 0.6])

    assert Drift.measured((np.array([np.nan]), usual), (np.array([np.nan]), usual)) is None
