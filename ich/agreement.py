"""The agreement analysis of one method against one reference; the names of every statistic are found here."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd

from ich.assumptions import assumption_checks, limits_to_quote
from ich.bland_altman import (
    BlandAltman,
    bland_altman,
    bland_altman_percent,
    bland_altman_ratio,
    limit_factors,
)
from ich.comparison import (
    CLINIC_EDGES_ML,
    PAPER_EDGES_ML,
    Equivalence,
    absolute_errors_by_group,
    equivalence,
    hodges_lehmann,
    holm,
    paired_absolute_errors,
    volume_group,
)
from ich.head_to_head import compare_methods
from ich.nonparametric import mountain, nonparametric_limits
from ich.pairs import Pairs, only, or_note
from ich.planning import cases_for_margin, cases_for_width, margin_power, next_study, width_curve
from ich.regression import deming, passing_bablok
from ich.reliability import ccc_of_sums, concordance, intraclass
from ich.repeated import linked_pairs, reader_pairs, repeatability, repeated_limits
from ich.resampling import (
    FEW,
    NOT_NEGATIVE,
    bca_interval,
    bootstrap_mean,
    mean_by_group,
    resampled_counts,
    wilson,
)
from ich.shared_statistics import LIMITS, shared_statistics, table_pairs
from ich.strata import agreement_table, in_strata
from ich.volume_classes import (
    confusion,
    false_expansion,
    kappa,
    reclassification,
    threshold_accuracy,
    threshold_confusion,
)
from ich.volume_limits import RegressionLimits, regression_limits

__all__ = [
    "CLINIC_EDGES_ML",
    "PAPER_EDGES_ML",
    "absolute_errors_by_group",
    "agreement_table",
    "assumption_checks",
    "bland_altman",
    "bland_altman_percent",
    "bland_altman_ratio",
    "bootstrap_mean",
    "cases_for_margin",
    "cases_for_width",
    "compare_methods",
    "concordance",
    "confusion",
    "deming",
    "equivalence",
    "false_expansion",
    "hodges_lehmann",
    "holm",
    "in_strata",
    "intraclass",
    "kappa",
    "limit_factors",
    "limits_to_quote",
    "linked_pairs",
    "margin_power",
    "mean_by_group",
    "mountain",
    "next_study",
    "nonparametric_limits",
    "paired_absolute_errors",
    "panel",
    "passing_bablok",
    "reader_pairs",
    "reclassification",
    "regression_limits",
    "repeatability",
    "repeated_limits",
    "threshold_accuracy",
    "threshold_confusion",
    "volume_group",
    "width_curve",
    "wilson",
]


def panel(
    table: pd.DataFrame,
    method: str,
    reference: str,
    *,
    case: str = "case_id",
    patient: str | None = None,
    margin_ml: float = 5.0,
    margin_percent: float = 20.0,
    confidence: float = 0.95,
    multiplier: float = 1.96,
    seed: int = 0,
    n_resamples: int = 2000,
) -> dict:
    """Every agreement statistic of two columns, ready for JSON; differences are method - reference.

    Parameters
    ----------
    table : one row per case.
    method, reference : columns of volumes, ml; rows that lack one are named under `missing_ids`.
    case : column of identifiers, used where the table has it.
    patient : column of patients; bootstrap intervals then resample patients, and those of concordance and ICC(A,1) are
        by jackknife over them, Lin's and McGraw & Wong's without it. Where some have several cases, limits and
        intervals come from `ich.linked` and tests from the patients' means.
    margin_ml, margin_percent : differences that would not change treatment, fixed before the run.

    Returns
    -------
    dict : the keys of `ich agree`; intervals are [low, high], what is not defined is None and named under
        `notes`.

    Raises
    ------
    ValueError : a column that is not there, text, infinite volumes, a case that stands twice, fewer than 3
        pairs.
    """
    pairs, patients = table_pairs(table, method, reference, case, patient)
    shared = shared_statistics(pairs, patients, margin_ml, margin_percent, confidence, multiplier)
    x, y, notes = pairs.method, pairs.reference, list(shared.notes)
    percentiles = nonparametric_limits(
        x, y, patients=patients, confidence=confidence, seed=seed, n_resamples=n_resamples
    )
    error = bootstrap_mean(
        np.abs(pairs.difference),
        patients,
        seed=seed,
        n_resamples=n_resamples,
        confidence=confidence,
        within=NOT_NEGATIVE,
    )
    found = {
        "method": method,
        "reference": reference,
        "n": pairs.n,
        "n_patients": shared.alone.n,
        "n_missing": len(pairs.missing_ids),
        "missing_ids": pairs.missing_ids,
        "confidence": confidence,
        "multiplier": multiplier,
        **only(shared.limits, *LIMITS),
        **only(shared.limits, "loa_lower_ci_approximate", "loa_upper_ci_approximate"),
        "log_ratio": _scale(shared.ratio, pairs),
        "percent": _scale(shared.percent, pairs),
        "regression_loa": _record(shared.regression),
        "nonparametric_loa": asdict(percentiles),
        **shared.coefficients,
        "passing_bablok": _line(or_note(notes, passing_bablok, x, y, confidence)),
        "deming": _line(or_note(notes, deming, x, y, confidence=confidence)),
        "mean_absolute_error": error.mean,
        "mean_absolute_error_ci": error.mean_ci,
        "root_mean_square_error": float(np.sqrt((pairs.difference**2).mean())),
        **shared.within,
        "margin_ml": margin_ml,
        "margin_percent": margin_percent,
        "tost": _record(shared.tost),
        "tost_percent": _record(shared.tost_percent),
        "checks": shared.checks,
        "limits_to_quote": shared.limits_to_quote,
        "classes": _classes(pairs, patients, confidence, seed, n_resamples),
        "bootstrap": _bootstrap(pairs, patients, margin_ml, margin_percent, multiplier, confidence, seed, n_resamples),
        "notes": notes,
    }
    if shared.owner is not None:
        notes.append(
            f"{pairs.n} cases of {shared.alone.n} patients: lines, correlations and kappa take cases as independent"
        )
    return _plain(found)


def _record(found: RegressionLimits | Equivalence | None) -> dict | None:
    return None if found is None else asdict(found)


def _scale(limits: BlandAltman | None, pairs: Pairs) -> dict | None:
    if limits is None:
        return None
    undefined = [str(pairs.ids[int(row)]) for row in limits.undefined_ids]
    return {**only(limits, "n", *LIMITS), "undefined_ids": undefined}


def _line(line) -> dict | None:
    return None if line is None else only(line, "slope", "slope_ci", "intercept", "intercept_ci", "note")


def _classes(pairs: Pairs, patients: np.ndarray | None, confidence: float, seed: int, n_resamples: int) -> dict:
    found: dict = {}
    method, reference = pairs.method, pairs.reference
    for name, edges in (("paper", PAPER_EDGES_ML), ("clinic", CLINIC_EDGES_ML)):
        counts = confusion(method, reference, edges)
        weighted = kappa(counts, "linear", confidence)
        found[name] = {"edges_ml": edges, "counts": counts.to_numpy().tolist(), **asdict(weighted)}
    found["thresholds"] = threshold_accuracy(method, reference, confidence=confidence, patients=patients).to_dict(
        "records"
    )
    found["reclassification"] = reclassification(method, reference, confidence=confidence, patients=patients)
    expansion = false_expansion(
        method, reference, confidence=confidence, seed=seed, n_resamples=n_resamples, patients=patients
    )
    found["false_expansion"] = asdict(expansion)
    return found


_BOOTSTRAPPED = (
    "bias",
    "sd",
    "loa_lower",
    "loa_upper",
    "ccc",
    "mean_absolute_error",
    "within_ml",
    "within_percent",
)


def _bootstrap(
    pairs: Pairs,
    patients: np.ndarray | None,
    margin_ml: float,
    margin_percent: float,
    multiplier: float,
    confidence: float,
    seed: int,
    n_resamples: int,
) -> dict:
    """BCa intervals over patients (over cases where no patient is named) of what sums over cases can tell; None where
    they are few."""
    owner = np.arange(pairs.n) if patients is None else pd.factorize(patients)[0]
    m = int(owner.max()) + 1
    found: dict = {"unit": "case" if patients is None else "patient", "n_units": m, "n_resamples": n_resamples}
    if m < FEW:
        return found | {f"{name}_ci": None for name in _BOOTSTRAPPED}
    center = pairs.reference.mean()  # keeps the sums of squares small
    x, y, d = pairs.method - center, pairs.reference - center, pairs.difference
    within = [np.abs(d) <= margin_ml, np.abs(d) <= margin_percent / 100 * np.abs(pairs.reference)]
    columns = [np.ones(pairs.n), x, y, x * x, y * y, x * y, d, d * d, np.abs(d), *within]
    units = np.column_stack([np.bincount(owner, column) for column in columns])
    total = units.sum(axis=0)

    def statistics(sums: np.ndarray) -> np.ndarray:
        n, sd, sdd, error, near_ml, near_percent = sums[:, [0, 6, 7, 8, 9, 10]].T
        bias = sd / n
        spread = np.sqrt(np.maximum(sdd - n * bias**2, 0) / np.maximum(n - 1, 1))
        limits = bias - multiplier * spread, bias + multiplier * spread
        ccc = ccc_of_sums(sums[:, :6])
        return np.column_stack([bias, spread, *limits, ccc, error / n, near_ml / n, near_percent / n])

    resampled = statistics(resampled_counts(m, n_resamples, seed) @ units)
    ends = bca_interval(statistics(total[None])[0], resampled, statistics(total - units), confidence)
    return found | {f"{name}_ci": end.tolist() for name, end in zip(_BOOTSTRAPPED, ends, strict=True)}


def _plain(value):
    """The same with lists, Python numbers, and None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        return float(value) if math.isfinite(value) else None
    return value
