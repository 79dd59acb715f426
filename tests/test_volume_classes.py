"""Classes, thresholds, reclassification and false expansion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from ich.volume_classes import (
    confusion,
    expanded,
    false_expansion,
    kappa,
    reclassification,
    threshold_accuracy,
)

REFERENCE = [5, 29, 30, 31, 60, 61, 100]
METHOD = [6, 30, 29, 40, 59, 50, 120]


def test_kappa_published():
    found = kappa([[0, 4, 1], [0, 8, 0], [0, 1, 5]], weights="none")
    assert found.n == 19
    assert found.kappa == pytest.approx(0.4842, abs=5e-5)
    assert found.kappa_ci == pytest.approx((0.2137, 0.7547), abs=5e-5)


@given(st.lists(st.integers(1, 20), min_size=9, max_size=9))
def test_kappa_equals_statsmodels(cells):
    table = np.reshape(cells, (3, 3))
    for weights in (None, "linear", "quadratic"):
        expected, found = cohens_kappa(table, wt=weights), kappa(table, weights or "none")
        assert found.kappa == pytest.approx(expected.kappa, abs=1e-12)
        inside = [max(-1, expected.kappa_low), min(1, expected.kappa_upp)]
        assert found.kappa_ci == pytest.approx(tuple(inside), abs=1e-9)


def test_kappa_on_paper():
    """Linear weights of a 2 by 2 table are plain kappa: observed 0.7, by chance 0.5."""
    for weights in ("none", "linear", "quadratic"):
        assert kappa([[20, 5], [10, 15]], weights).kappa == pytest.approx(0.4)
    assert kappa([[3, 0, 0], [0, 4, 0], [0, 0, 5]]).kappa == 1
    assert kappa([[10, 0, 0], [0, 9, 1], [0, 0, 10]]).kappa_ci[1] == 1
    assert kappa([[0, 5], [4, 1]]).kappa_ci[0] == -1


def test_kappa_without_variance_or_sense():
    one_class = kappa([[9, 0], [0, 0]])
    assert np.isnan(one_class.kappa)
    assert one_class.observed == 1
    for table in ([[1, 2, 3], [4, 5, 6]], [[0, 0], [0, 0]], [[2, -1], [1, 2]]):
        with pytest.raises(ValueError, match="square table"):
            kappa(table)
    with pytest.raises(ValueError, match="wanted one of none, linear, quadratic"):
        kappa([[1, 2], [3, 4]], "cubic")


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_perfect_agreement_has_no_interval(weights):
    """psych 2.2.9: variance 0; rounding must not make an interval of 1.00 to 1.00 of it."""
    found = kappa(np.diag([32, 26, 1, 1]), weights)
    assert (found.observed, found.kappa) == (1, pytest.approx(1))
    assert np.isnan(found.kappa_ci).all()


def test_confusion_on_paper():
    found = confusion(METHOD, REFERENCE)
    assert found.to_numpy().tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 1]]
    assert found.index.tolist() == ["<30", "30-60", ">60"]
    assert confusion([1, 2], [1, 2]).to_numpy().tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_thresholds_on_paper():
    found = threshold_accuracy(METHOD, REFERENCE, thresholds_ml=(30, 200)).set_index("threshold_ml")
    assert found.loc[30, "n_positive"] == 5
    assert found.loc[30, "sensitivity"] == pytest.approx(4 / 5)
    assert found.loc[30, "specificity"] == pytest.approx(1 / 2)
    assert found.loc[30, "sensitivity_ci_low"] == pytest.approx(0.3755, abs=5e-5)  # Wilson, 4 of 5
    assert np.isnan(found.loc[200, "sensitivity"])
    assert found.loc[200, "specificity"] == 1


def test_reclassification_on_paper():
    found = reclassification(METHOD, REFERENCE)
    assert (found["n"], found["gained"], found["lost"]) == (7, 1, 1)
    assert found["share"] == pytest.approx(2 / 7)
    # 30 ml is a point already: 35 for 30 changes nothing. Three points are lost, one is gained.
    found = reclassification([35, 30, 12, 29, 28, 33, 5], [30, 35, 30, 40, 31, 29, 6])
    assert (found["gained"], found["lost"], found["share"]) == (1, 3, pytest.approx(4 / 7))


def test_expansion_rule():
    assert expanded([10, 10, 100, 100, 0], [13.4, 13.2, 105.9, 106.1, 0.1]).tolist() == [
        True,
        False,
        False,
        True,
        False,  # from nothing a third more means nothing: 6 ml count
    ]


def test_false_expansion_on_paper():
    """Three hematomas of 20 ml, measured 20, 20 and 30 ml.

    Replaced: one of three grows. Repeated, over ordered pairs (baseline error of i, follow-up error of j):
    from 20 to 30 ml in 2 of 6.
    """
    found = false_expansion([20, 20, 30], [20, 20, 20])
    assert (found.replaced, found.replaced_share) == (1, pytest.approx(1 / 3))
    assert found.repeated_share == pytest.approx(2 / 6)
    with_none = false_expansion([20, 20, 30, 3], [20, 20, 20, 0])  # no relative error where there was nothing
    assert (with_none.replaced_share, with_none.repeated_share) == pytest.approx((1 / 4, 2 / 6))
    perfect = false_expansion([10, 20, 40, 80], [10, 20, 40, 80])
    assert (perfect.replaced, perfect.repeated_share) == (0, 0)
    assert np.isnan(perfect.repeated_share_ci).all()  # no resample of cases that never err differs
    assert np.isnan(false_expansion([5, 40], [5, 40]).repeated_share)


@given(st.integers(0, 1000))
def test_expansion_depends_on_independent_errors(seed):
    """Repeated measurement counts what a loop over all ordered pairs of a volume group counts."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(5, 29, 12)
    measured = truth * rng.lognormal(0, 0.2, 12)
    hits = [expanded(measured[i], truth[i] * measured[j] / truth[j]) for i in range(12) for j in range(12) if i != j]
    assert false_expansion(measured, truth, n_resamples=10).repeated_share == pytest.approx(np.mean(hits))


def test_shares_heed_that_scans_of_one_patient_resemble_each_other():
    """Each case twice, as another scan of its patient: shares as before, with intervals as of half the cases."""
    random = np.random.default_rng(4)
    truth = random.uniform(5, 80, 24)
    measured = truth * random.normal(1, 0.4, 24)
    once = threshold_accuracy(measured, truth)
    twice = threshold_accuracy(np.tile(measured, 2), np.tile(truth, 2), patients=np.tile(np.arange(24), 2))
    assert twice["sensitivity"].tolist() == pytest.approx(once["sensitivity"].tolist())
    for end in ("low", "high"):
        ends = twice[f"specificity_ci_{end}"], once[f"specificity_ci_{end}"]
        assert ends[0].tolist()[1:] == pytest.approx(ends[1].tolist()[1:], abs=0.05)  # two cases lie below 15 ml
    apart, together = (
        false_expansion(np.tile(measured, 2), np.tile(truth, 2), patients=patients)
        for patients in (None, np.tile(np.arange(24), 2))
    )
    for name in ("replaced_share_ci", "repeated_share_ci"):
        assert np.ptp(getattr(together, name)) > 1.2 * np.ptp(getattr(apart, name))


def test_the_interval_of_repeated_measurement_is_that_of_resamples_written_out():
    random = np.random.default_rng(6)
    truth = random.uniform(5, 29, 14)
    measured = truth * random.lognormal(0, 0.2, 14)
    hits = np.array(
        [[expanded(m, t * other) for other in measured / truth] for m, t in zip(measured, truth, strict=True)]
    )
    shares = []
    for _ in range(4000):
        drawn = random.integers(0, 14, 14)
        pairs = hits[np.ix_(drawn, drawn)][drawn[:, None] != drawn]
        shares.append(pairs.mean())
    found = false_expansion(measured, truth, n_resamples=4000)
    assert found.repeated_share_ci == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.03)
    assert 0.05 < found.repeated_share_ci[0] < found.repeated_share < found.repeated_share_ci[1]
