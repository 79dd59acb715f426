"""The agreement analysis of one method against one reference; the names of every statistic are found here."""

import math
from dataclasses import asdict
from typing import Any

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
    absolute_errors_by_group,
    equivalence,
    hodges_lehmann,
    holm,
    inside_margins,
    paired_absolute_errors,
    percent_equivalence,
    volume_group,
    within_margins,
)
from ich.head_to_head import compare_methods
from ich.linked import coefficient_intervals, owners, per_patient
from ich.nonparametric import mountain, nonparametric_limits
from ich.pairs import Pairs, only, or_note, pair
from ich.planning import cases_for_margin, cases_for_width, margin_power, next_study, width_curve
from ich.regression import deming, passing_bablok
from ich.reliability import ccc_of_sums, concordance, correlations, intraclass
from ich.repeated import linked_pairs, reader_pairs, repeatability, repeated_limits
from ich.resampling import (
    FEW,
    NOT_NEGATIVE,
    bca_interval,
    bootstrap_mean,
    mean_by_group,
    resampled_counts,
    share_interval,
    wilson,
)
from ich.strata import agreement_table
from ich.volume_classes import (
    confusion,
    false_expansion,
    kappa,
    reclassification,
    threshold_accuracy,
    threshold_confusion,
)
from ich.volume_limits import regression_limits

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
    pairs, patients = _pairs(table, method, reference, case, patient)
    x, y = pairs.method, pairs.reference
    owner = owners(patients, pairs.n)
    alone = per_patient(pairs, owner)
    notes: list[str] = []
    options: dict[str, Any] = {"patients": patients, "confidence": confidence, "multiplier": multiplier}
    limits = bland_altman(x, y, **options)
    ratio = or_note(notes, bland_altman_ratio, x, y, **options)
    percent = or_note(notes, bland_altman_percent, x, y, **options)
    slope = or_note(notes, regression_limits, x, y, **options)
    concord = concordance(x, y, confidence)
    icc = intraclass(np.column_stack([x, y]), confidence).set_index("type").to_dict("index")
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
    checks = assumption_checks(x, y, patients)
    tost = None if alone.n < 3 else equivalence(alone.difference, margin_ml)
    tost_percent = None if alone.n < 3 else percent_equivalence(alone, margin_percent)
    found = {
        "method": method,
        "reference": reference,
        "n": pairs.n,
        "n_patients": alone.n,
        "n_missing": len(pairs.missing_ids),
        "missing_ids": pairs.missing_ids,
        "confidence": confidence,
        "multiplier": multiplier,
        **only(limits, "bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci"),
        **only(limits, "loa_lower_ci_approximate", "loa_upper_ci_approximate"),
        "log_ratio": _scale(ratio, pairs),
        "percent": _scale(percent, pairs),
        "regression_loa": None if slope is None else asdict(slope),
        "nonparametric_loa": asdict(percentiles),
        **only(concord, "ccc", "ccc_ci"),
        "icc_a1": icc["ICC(A,1)"]["icc"],
        "icc_a1_ci": [icc["ICC(A,1)"]["ci_low"], icc["ICC(A,1)"]["ci_high"]],
        "icc_c1": icc["ICC(C,1)"]["icc"],
        "icc_c1_ci": [icc["ICC(C,1)"]["ci_low"], icc["ICC(C,1)"]["ci_high"]],
        **correlations(pairs, notes),
        "passing_bablok": _line(or_note(notes, passing_bablok, x, y, confidence)),
        "deming": _line(or_note(notes, deming, x, y, confidence=confidence)),
        "mean_absolute_error": error.mean,
        "mean_absolute_error_ci": error.mean_ci,
        "root_mean_square_error": float(np.sqrt((pairs.difference**2).mean())),
        **within_margins(pairs, margin_ml, margin_percent, confidence),
        "margin_ml": margin_ml,
        "margin_percent": margin_percent,
        "tost": None if tost is None else asdict(tost),
        "tost_percent": None if tost_percent is None else asdict(tost_percent),
        "checks": checks,
        "limits_to_quote": limits_to_quote(checks),
        "classes": _classes(pairs, patients, confidence, seed, n_resamples),
        "bootstrap": _bootstrap(pairs, patients, margin_ml, margin_percent, multiplier, confidence, seed, n_resamples),
        "notes": notes,
    }
    if patients is not None:
        found |= coefficient_intervals(pairs, owner, confidence)
    if owner is not None:
        for name, inside in inside_margins(pairs, margin_ml, margin_percent).items():
            found[f"{name}_ci"] = share_interval(inside, owner, confidence)
        found["icc_c1_ci"] = None
        notes.append(f"{pairs.n} cases of {alone.n} patients: lines, correlations and kappa take cases as independent")
    return _plain(found)


def _pairs(
    table: pd.DataFrame, method: str, reference: str, case: str, patient: str | None
) -> tuple[Pairs, np.ndarray | None]:
    """Pairs of two columns, and the patient of each."""
    wanted = [method, reference, *([patient] if patient else [])]
    lacking = [name for name in wanted if name not in table]
    if lacking:
        raise ValueError(f"no column {', '.join(lacking)}; found {', '.join(map(str, table.columns))}")
    pairs = pair(table[method], table[reference], table.get(case), names=(method, reference))
    if patient is None:
        return pairs, None
    owners = table[patient].to_numpy(dtype=object)[pairs.kept]
    if pd.isna(owners).any():
        raise ValueError(f"{patient}: case {pairs.ids[pd.isna(owners).argmax()]} has no patient")
    return pairs, owners


def _scale(limits: BlandAltman | None, pairs: Pairs) -> dict | None:
    if limits is None:
        return None
    undefined = [str(pairs.ids[int(row)]) for row in limits.undefined_ids]
    names = ("n", "bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci")
    return {**only(limits, *names), "undefined_ids": undefined}


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
