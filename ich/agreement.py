"""The whole agreement analysis of one method against one reference, and the table of many."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, shapiro, spearmanr, ttest_1samp

from ich.bland_altman import (
    BlandAltman,
    RegressionLimits,
    bland_altman,
    bland_altman_percent,
    bland_altman_ratio,
    nonparametric_limits,
    regression_limits,
)
from ich.comparison import CLINIC_EDGES_ML, PAPER_EDGES_ML, equivalence, holm, wilson
from ich.pairs import Pairs, flat, pair
from ich.regression import deming, passing_bablok
from ich.reliability import concordance, intraclass
from ich.resampling import bca_interval, resampled_counts
from ich.volume_classes import confusion, false_expansion, kappa, reclassification, threshold_accuracy

ALPHA = 0.05  # of the assumption checks
SHAPIRO_MAX = 5000  # beyond, the test's p value is not reliable


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
    patient : column of patients; bootstrap intervals then resample patients.
    margin_ml, margin_percent : differences that would not change treatment, fixed before the run.

    Returns
    -------
    dict : the keys of `ich agree`; intervals are [low, high], what is not defined is None and named under `notes`.

    Raises
    ------
    ValueError : a column that is not there, text, infinite volumes, a case that stands twice, fewer than 3 pairs.
    """
    pairs, owners = _pairs(table, method, reference, case, patient)
    x, y = pairs.method, pairs.reference
    notes: list[str] = []
    limits = bland_altman(x, y, confidence=confidence, multiplier=multiplier)
    ratio = _or_note(notes, bland_altman_ratio, x, y, confidence=confidence, multiplier=multiplier)
    percent = _or_note(notes, bland_altman_percent, x, y, confidence=confidence, multiplier=multiplier)
    slope = _or_note(notes, regression_limits, x, y, confidence=confidence, multiplier=multiplier)
    concord = concordance(x, y, confidence)
    icc = intraclass(np.column_stack([x, y]), confidence).set_index("type")
    checks = assumption_checks(x, y)
    found = {
        "method": method,
        "reference": reference,
        "n": pairs.n,
        "n_missing": len(pairs.missing_ids),
        "missing_ids": pairs.missing_ids,
        "confidence": confidence,
        "multiplier": multiplier,
        **_only(limits, "bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci"),
        **_only(limits, "loa_lower_ci_approximate", "loa_upper_ci_approximate"),
        "log_ratio": _scale(ratio, pairs),
        "percent": _scale(percent, pairs),
        "regression_loa": None if slope is None else asdict(slope),
        "nonparametric_loa": asdict(
            nonparametric_limits(
                x, y, patients=owners, coverage=confidence, confidence=confidence, seed=seed, n_resamples=n_resamples
            )
        ),
        **_only(concord, "ccc", "ccc_ci"),
        "icc_a1": icc.loc["ICC(A,1)", "icc"],
        "icc_a1_ci": icc.loc["ICC(A,1)", ["ci_low", "ci_high"]].tolist(),
        "icc_c1": icc.loc["ICC(C,1)", "icc"],
        "icc_c1_ci": icc.loc["ICC(C,1)", ["ci_low", "ci_high"]].tolist(),
        **_correlations(pairs, notes),
        "passing_bablok": _line(_or_note(notes, passing_bablok, x, y, confidence)),
        "deming": _line(_or_note(notes, deming, x, y, confidence=confidence)),
        "mean_absolute_error": float(np.abs(pairs.difference).mean()),
        "root_mean_square_error": float(np.sqrt((pairs.difference**2).mean())),
        **_within(pairs, margin_ml, margin_percent, confidence),
        "margin_ml": margin_ml,
        "margin_percent": margin_percent,
        "tost": asdict(equivalence(pairs.difference, margin_ml)),
        "tost_percent": _percent_equivalence(pairs, margin_percent),
        "checks": checks,
        "limits_to_quote": limits_to_quote(checks),
        "classes": _classes(x, y, confidence, seed, n_resamples),
        "bootstrap": _bootstrap(pairs, owners, margin_ml, margin_percent, multiplier, confidence, seed, n_resamples),
        "notes": notes,
    }
    return _plain(found)


def _pairs(
    table: pd.DataFrame, method: str, reference: str, case: str, patient: str | None
) -> tuple[Pairs, np.ndarray | None]:
    """Pairs of two columns, and the patient of each."""
    wanted = [method, reference, *([patient] if patient else [])]
    lacking = [name for name in wanted if name not in table]
    if lacking:
        raise ValueError(f"no column {', '.join(lacking)}; found {', '.join(map(str, table.columns))}")
    ids = table[case] if case in table else None
    pairs = pair(table[method], table[reference], ids, names=(method, reference))
    if patient is None:
        return pairs, None
    owners = table[patient].to_numpy(dtype=object)[pairs.kept]
    if pd.isna(owners).any():
        raise ValueError(f"{patient}: case {pairs.ids[pd.isna(owners).argmax()]} has no patient")
    return pairs, owners


def _or_note(notes: list[str], statistic, *columns, **options):
    """A statistic, or None and the reason in `notes` where these data do not define it."""
    try:
        return statistic(*columns, **options)
    except ValueError as error:
        notes.append(str(error))
        return None


def _only(record, *names: str) -> dict:
    return {name: getattr(record, name) for name in names}


def _scale(limits: BlandAltman | None, pairs: Pairs) -> dict | None:
    if limits is None:
        return None
    undefined = [str(pairs.ids[int(row)]) for row in limits.undefined_ids]
    names = ("n", "bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci")
    return {**_only(limits, *names), "undefined_ids": undefined}


def _line(line) -> dict | None:
    return None if line is None else _only(line, "slope", "slope_ci", "intercept", "intercept_ci", "note")


def _correlations(pairs: Pairs, notes: list[str]) -> dict:
    if np.ptp(pairs.method) == 0 or np.ptp(pairs.reference) == 0:
        notes.append("correlation: one column is constant")
        return {"pearson_r": None, "spearman_rho": None}
    r, rho = pearsonr(pairs.method, pairs.reference), spearmanr(pairs.method, pairs.reference)
    return {"pearson_r": float(r.statistic), "spearman_rho": float(rho.statistic)}


def _within(pairs: Pairs, margin_ml: float, margin_percent: float, confidence: float) -> dict:
    """Shares of cases within 5 ml and 20 % of the reference, and within the run's own margins."""
    error = np.abs(pairs.difference)
    found: dict = {}
    for name, inside in (
        ("within_5_ml", error <= 5),
        ("within_20_percent", error <= 0.2 * np.abs(pairs.reference)),
        ("within_margin_ml", error <= margin_ml),
        ("within_margin_percent", error <= margin_percent / 100 * np.abs(pairs.reference)),
    ):
        found[name] = float(inside.mean())
        found[f"{name}_ci"] = wilson(int(inside.sum()), pairs.n, confidence)
    return found


def _percent_equivalence(pairs: Pairs, margin_percent: float) -> dict | None:
    usable = pairs.mean > 0
    if usable.sum() < 3:
        return None
    return asdict(equivalence(100 * pairs.difference[usable] / pairs.mean[usable], margin_percent))


def assumption_checks(method: np.ndarray, reference: np.ndarray) -> dict:
    """Whether constant limits suit the differences, on the ml and on the log scale.

    Returns
    -------
    For "ml" and "ratio": n, normality_p (Shapiro-Wilk), proportional_bias_p (slope of the difference on the mean),
    spread_p (slope of the absolute residual on the mean) and a flag for each: normal, no_proportional_bias,
    constant_spread (p >= 0.05). None where a scale or a check is not defined.
    """
    method, reference = np.asarray(method, dtype=float), np.asarray(reference, dtype=float)
    positive = (method > 0) & (reference > 0)
    scales = {"ml": _checks(method, reference)}
    enough = positive.sum() >= 3
    scales["ratio"] = _checks(np.log(method[positive]), np.log(reference[positive])) if enough else None
    if scales["ratio"] is not None:
        scales["ratio"]["all_positive"] = bool(positive.all())
    return {"alpha": ALPHA, **scales}


def _checks(method: np.ndarray, reference: np.ndarray) -> dict:
    difference = method - reference
    found: dict = {"n": difference.size, "normality_p": None, "proportional_bias_p": None, "spread_p": None}
    if np.ptp(difference) > 0 and difference.size <= SHAPIRO_MAX:
        found["normality_p"] = float(shapiro(difference).pvalue)
    if np.ptp(method + reference) > 0 and np.ptp(difference) > 0:
        slope = regression_limits(method, reference)
        found |= {"proportional_bias_p": slope.b1_p, "spread_p": slope.c1_p}
    names = {"normal": "normality_p", "no_proportional_bias": "proportional_bias_p", "constant_spread": "spread_p"}
    for flag, p in names.items():
        found[flag] = None if found[p] is None else bool(found[p] >= ALPHA)
    return found


def limits_to_quote(checks: dict) -> dict:
    """Which limits the checks speak for, and why, in a sentence.

    Constant limits need all three checks. Without normality alone: nonparametric limits. With a bias or spread that
    follows the volume: ratio limits if every volume is positive and the log scale passes the two slope checks, else
    regression limits.
    """
    raw, ratio = checks["ml"], checks["ratio"]
    if raw["normal"] is None and raw["constant_spread"] is None:
        return {"limits": "constant", "reason": "the differences do not vary"}
    failed = [text for flag, text in _FAILED.items() if raw[flag] is False]
    if not failed:
        return {"limits": "constant", "reason": "differences look normal, with no trend in bias or spread"}
    reason = " and ".join(failed)
    if raw["no_proportional_bias"] is not False and raw["constant_spread"] is not False:
        return {"limits": "nonparametric", "reason": reason}
    level = ratio is not None and ratio["all_positive"]
    if level and ratio["no_proportional_bias"] is not False and ratio["constant_spread"] is not False:
        return {"limits": "ratio", "reason": f"{reason}; on the log scale neither trend remains"}
    return {"limits": "regression", "reason": f"{reason}, on the log scale too" if level else reason}


_FAILED = {
    "normal": "differences are not normal",
    "no_proportional_bias": "bias changes with volume",
    "constant_spread": "spread changes with volume",
}


def _classes(method: np.ndarray, reference: np.ndarray, confidence: float, seed: int, n_resamples: int) -> dict:
    found: dict = {}
    for name, edges in (("paper", PAPER_EDGES_ML), ("clinic", CLINIC_EDGES_ML)):
        counts = confusion(method, reference, edges)
        weighted = kappa(counts, "linear", confidence)
        found[name] = {"edges_ml": edges, "counts": counts.to_numpy().tolist(), **asdict(weighted)}
    found["thresholds"] = threshold_accuracy(method, reference, confidence=confidence).to_dict("records")
    found["reclassification"] = reclassification(method, reference, confidence=confidence)
    expansion = false_expansion(method, reference, confidence=confidence, seed=seed, n_resamples=n_resamples)
    found["false_expansion"] = asdict(expansion)
    return found


_BOOTSTRAPPED = ("bias", "sd", "loa_lower", "loa_upper", "ccc", "mean_absolute_error", "within_ml", "within_percent")


def _bootstrap(
    pairs: Pairs,
    owners: np.ndarray | None,
    margin_ml: float,
    margin_percent: float,
    multiplier: float,
    confidence: float,
    seed: int,
    n_resamples: int,
) -> dict:
    """BCa intervals over patients (over cases where no patient is named) of what sums over cases can tell."""
    owner = np.arange(pairs.n) if owners is None else pd.factorize(owners)[0]
    m = int(owner.max()) + 1
    found: dict = {"unit": "case" if owners is None else "patient", "n_units": m, "n_resamples": n_resamples}
    if m < 3:
        return found | {f"{name}_ci": None for name in _BOOTSTRAPPED}
    center = pairs.reference.mean()  # keeps the sums of squares small
    x, y, d = pairs.method - center, pairs.reference - center, pairs.difference
    within = [np.abs(d) <= margin_ml, np.abs(d) <= margin_percent / 100 * np.abs(pairs.reference)]
    columns = [np.ones(pairs.n), d, d * d, x, y, x * x, y * y, x * y, np.abs(d), *within]
    units = np.column_stack([np.bincount(owner, column) for column in columns])
    total = units.sum(axis=0)

    def statistics(sums: np.ndarray) -> np.ndarray:
        n, sd, sdd, sx, sy, sxx, syy, sxy, error, near_ml, near_percent = sums.T
        bias = sd / n
        spread = np.sqrt(np.maximum(sdd - n * bias**2, 0) / np.maximum(n - 1, 1))
        spread_xy = sxx + syy - (sx**2 + sy**2) / n + (sx - sy) ** 2 / n
        ccc = np.divide(2 * (sxy - sx * sy / n), spread_xy, out=np.zeros_like(n), where=spread_xy > 0)
        limits = bias - multiplier * spread, bias + multiplier * spread
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


def agreement_table(
    table: pd.DataFrame,
    reference: str,
    methods: Sequence[str],
    strata: Sequence[str] = (),
    *,
    case: str = "case_id",
    margin_ml: float = 5.0,
    margin_percent: float = 20.0,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> pd.DataFrame:
    """Agreement of each method with the reference, over all cases and within strata.

    Parameters
    ----------
    strata : columns of `table`; each of their values is a stratum, named "column: value".

    Returns
    -------
    One row per method and stratum ("all" first): counts, bias, SD, limits with exact intervals, percent and ratio
    limits, proportional bias, CCC, ICC(A,1), correlations, errors, shares within 5 ml and 20 %, TOST at the margins,
    `bias_p` (t test of no bias) and `bias_p_holm` (over the strata rows of the table). `note` says what is missing;
    a stratum with fewer than 3 pairs has its n and a note.
    """
    rows = []
    for method in methods:
        for stratum, part in _strata(table, strata):
            head = {"method": method, "reference": reference, "stratum": stratum}
            rows.append(head | _agreement_row(part, method, reference, case, margin_ml, margin_percent, confidence, multiplier))
    found = pd.DataFrame(rows)
    inside = found["stratum"] != "all"
    found["bias_p_holm"] = found["bias_p"]
    found.loc[inside, "bias_p_holm"] = holm(found.loc[inside, "bias_p"])
    return found[[*(name for name in found if name != "note"), "note"]]


def _strata(table: pd.DataFrame, strata: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    lacking = [name for name in strata if name not in table]
    if lacking:
        raise ValueError(f"no column {', '.join(lacking)} to stratify by; found {', '.join(map(str, table.columns))}")
    parts = [("all", table)]
    for name in strata:
        parts += [(f"{name}: {value}", part) for value, part in table.groupby(name, observed=True)]
    return parts


def _agreement_row(part, method, reference, case, margin_ml, margin_percent, confidence, multiplier) -> dict:
    for name in (method, reference):
        if name not in part:
            raise ValueError(f"no column {name}; found {', '.join(map(str, part.columns))}")
    pairs = pair(
        part[method], part[reference], part[case] if case in part else None, names=(method, reference), minimum=0
    )
    row: dict = {"n": pairs.n, "n_missing": len(pairs.missing_ids), "bias_p": float("nan"), "note": ""}
    if pairs.n < 3:
        return row | {"note": f"{pairs.n} pairs: no limits"}
    x, y = pairs.method, pairs.reference
    notes: list[str] = []
    limits = bland_altman(x, y, confidence=confidence, multiplier=multiplier)
    names = ("bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci")
    row |= _only(limits, *names)
    row["bias_p"] = float(ttest_1samp(pairs.difference, 0).pvalue) if limits.sd > 0 else float("nan")
    for scale, statistic in (("percent", bland_altman_percent), ("ratio", bland_altman_ratio)):
        found = _or_note(notes, statistic, x, y, confidence=confidence, multiplier=multiplier)
        if found is not None:
            row |= {f"{scale}_n": found.n} | {f"{scale}_{name}": value for name, value in _only(found, *names).items()}
    slope: RegressionLimits | None = _or_note(notes, regression_limits, x, y, confidence=confidence)
    if slope is not None:
        row |= {"slope": slope.b1, "slope_ci": slope.b1_ci, "slope_p": slope.b1_p, "spread_slope_p": slope.c1_p}
    row |= _only(concordance(x, y, confidence), "ccc", "ccc_ci")
    icc = intraclass(np.column_stack([x, y]), confidence).set_index("type").loc["ICC(A,1)"]
    row |= {"icc_a1": icc["icc"], "icc_a1_ci": (icc["ci_low"], icc["ci_high"])} | _correlations(pairs, notes)
    error = np.abs(pairs.difference)
    row |= {"mean_absolute_error": error.mean(), "median_absolute_error": float(np.median(error))}
    within = _within(pairs, margin_ml, margin_percent, confidence)
    row |= {name: within[name] for name in ("within_5_ml", "within_5_ml_ci", "within_20_percent", "within_20_percent_ci")}
    row["tost_p"] = equivalence(pairs.difference, margin_ml).p
    tost_percent = _percent_equivalence(pairs, margin_percent)
    row["tost_percent_p"] = float("nan") if tost_percent is None else tost_percent["p"]
    return flat(row | {"note": "; ".join(notes)})
