"""Volume errors of methods on the same cases: by group, paired, against a margin, with multiplicity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t, wilcoxon

from ich.pairs import Pairs, numbers, require_columns, unique_ids, varies
from ich.resampling import NOT_NEGATIVE, bootstrap_mean, share_interval, wilson

PAPER_EDGES_ML = (5.0, 25.0)  # Wang 2019
CLINIC_EDGES_ML = (30.0, 60.0)  # Broderick et al., Stroke 1993;24:987: mortality by volume
EXACT_UP_TO = 50  # pairs; the signed-rank distribution is counted up to here and normal beyond


def group_labels(edges_ml: Sequence[float]) -> list[str]:
    """Names of the volume groups: (5, 25) gives <5, 5-25 and >25."""
    inner = [f"{low:g}-{high:g}" for low, high in pairwise(edges_ml)]
    return [f"<{edges_ml[0]:g}", *inner, f">{edges_ml[-1]:g}"]


def volume_group(volume_ml: ArrayLike, edges_ml: Sequence[float] = PAPER_EDGES_ML) -> pd.Series:
    """Group of each volume as an ordered categorical; an edge belongs to the group between the edges.

    Raises
    ------
    ValueError : fewer than two edges, or edges that do not ascend.
    """
    edges = np.asarray(edges_ml, dtype=float)
    if edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"edges_ml: got {tuple(edges_ml)}, wanted at least two that ascend")
    found = numbers(volume_ml, "volume_ml")
    code = np.searchsorted(edges, found, side="right")
    code[found == edges[-1]] = edges.size - 1
    code[np.isnan(found)] = -1
    index = volume_ml.index if isinstance(volume_ml, pd.Series) else None
    groups = pd.Categorical.from_codes(code, pd.Index(group_labels(edges_ml)), ordered=True)
    return pd.Series(groups, index=index)


def _columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Named columns as numbers, after a look at the identifiers."""
    require_columns(table, *names)
    ids = unique_ids(table["case_id"], "table") if "case_id" in table else None
    return pd.DataFrame({name: numbers(table[name], name, ids) for name in names}, index=table.index)


def absolute_errors_by_group(
    table: pd.DataFrame,
    reference: str,
    methods: Sequence[str],
    edges_ml: Sequence[float] = PAPER_EDGES_ML,
    *,
    patient: str = "patient_id",
    seed: int = 0,
    n_resamples: int = 2000,
) -> pd.DataFrame:
    """Absolute volume error of each method by reference-volume group, laid out like the table of Wang 2019.

    Parameters
    ----------
    patient : column of whose case it is, for the interval; without it every case is a patient.

    Returns
    -------
    One row per method and group, then "all": method, group, n, n_missing, reference_mean_ml, mean_ml, sd_ml
    (n - 1), median_ml, max_ml, mean_ci_low and mean_ci_high (95 %, of `ich.resampling.bootstrap_mean`, empty below
    three patients). A group without cases has n = 0 and empty numbers.
    """
    values = _columns(table, [reference, *methods])
    group = volume_group(values[reference], edges_ml)
    rows = []
    for method in methods:
        error = (values[method] - values[reference]).abs()
        for label in [*group_labels(edges_ml), "all"]:
            inside = group.notna() if label == "all" else group == label
            found = error[inside].dropna()
            owners = table.loc[found.index, patient] if patient in table else None
            low, high = bootstrap_mean(found, owners, seed=seed, n_resamples=n_resamples, within=NOT_NEGATIVE).mean_ci
            rows.append(
                {
                    "method": method,
                    "group": label,
                    "n": len(found),
                    "n_missing": int(inside.sum()) - len(found),
                    "reference_mean_ml": values.loc[found.index, reference].mean(),
                    "mean_ml": found.mean(),
                    "sd_ml": found.std(ddof=1),
                    "median_ml": found.median(),
                    "max_ml": found.max(),
                    "mean_ci_low": low,
                    "mean_ci_high": high,
                }
            )
    return pd.DataFrame(rows)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm-adjusted p values in the given order; NaN stays NaN and is not counted as a test.

    Source: Holm, Scand J Stat 1979;6:65.
    """
    p = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(p))
    adjusted = np.full(p.shape, np.nan)
    order = tested[np.argsort(p[tested], kind="stable")]
    scaled = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if order.size else scaled
    return adjusted


@dataclass(frozen=True)
class Shift:
    """Hodges-Lehmann estimate of the center of paired differences, with the Wilcoxon signed-rank test."""

    n: int
    shift: float
    shift_ci: tuple[float, float]
    confidence_reached: float  # below that asked for where n is too small to reach it
    p: float  # 1 where every difference is zero
    exact: bool  # p from the exact distribution

    def reached_ci(self, confidence: float) -> tuple[float, float]:
        """`shift_ci`; NaN where so few differences do not reach the confidence (of 0.95 six do)."""
        return self.shift_ci if self.confidence_reached >= confidence - 1e-9 else (float("nan"), float("nan"))


def hodges_lehmann(differences: ArrayLike, confidence: float = 0.95) -> Shift:
    """Median of the Walsh averages with the interval that inverts the signed-rank test.

    Up to 50 differences the interval is of the exact distribution (order statistics of the Walsh averages; conservative
    with ties), beyond normal. The p value leaves zero differences out, and is exact without them, without ties and up
    to 50.

    Raises
    ------
    ValueError : no difference at all, or missing ones.

    Source: Hollander & Wolfe, Nonparametric Statistical Methods 1999, sections 3.1-3.3.
    """
    values = numbers(differences, "differences")
    if values.size == 0 or np.isnan(values).any():
        raise ValueError(f"differences: got {values.size}, {int(np.isnan(values).sum())} missing, wanted one or more")
    n = values.size
    rows, columns = np.triu_indices(n)
    walsh = np.sort((values[rows] + values[columns]) / 2)
    depth, reached = _signed_rank_depth(n, confidence, n <= EXACT_UP_TO)
    p, exact = signed_rank(values)
    ends = float(walsh[depth - 1]), float(walsh[walsh.size - depth])
    return Shift(n, float(np.median(walsh)), ends, reached, p, exact)


def signed_rank(values: np.ndarray) -> tuple[float, bool]:
    """P value of Wilcoxon's test of differences (n,), 1 where all are zero, and whether it is exact.

    Zero differences are left out; exact without them, without ties and up to 50.
    """
    nonzero = values[values != 0]
    if nonzero.size == 0:
        return 1.0, False
    exact = values.size <= EXACT_UP_TO and np.unique(np.abs(values)).size == values.size == nonzero.size
    p = float(wilcoxon(nonzero, method="exact" if exact else "asymptotic", correction=not exact).pvalue)
    return min(p, 1.0), exact


def _signed_rank_depth(n: int, confidence: float, counted: bool) -> tuple[int, float]:
    """Rank of the Walsh average, from either end, that bounds the interval, and the confidence reached."""
    if not counted:
        z = norm.ppf((1 + confidence) / 2)
        depth = n * (n + 1) / 4 - z * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(1, round(depth)), confidence
    ways = np.ones(1)
    for rank in range(1, n + 1):
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    below = ways.cumsum() / ways.sum()
    # The smallest rank sum whose lower tail exceeds alpha / 2, as R's qsignrank.
    depth = max(1, int(np.searchsorted(below, (1 - confidence) / 2)))
    return depth, float(1 - 2 * below[depth - 1])


def paired_absolute_errors(
    table: pd.DataFrame,
    reference: str,
    first: str,
    second: str,
    edges_ml: Sequence[float] = PAPER_EDGES_ML,
    confidence: float = 0.95,
    *,
    patient: str = "patient_id",
) -> pd.DataFrame:
    """Whether `first` or `second` errs less, on cases that have both, by reference-volume group.

    Returns
    -------
    One row per group, then "all": group, first, second, n, n_patients, n_missing, first_mean_ml, second_mean_ml,
    shift_ml (Hodges-Lehmann, error of first minus error of second: negative favors first; of the patients' mean
    differences, where the table names patients), shift_ci_low, shift_ci_high (empty where n is too small for the
    confidence), confidence_reached, p (Wilcoxon signed-rank),
    p_holm (over the groups; "all" stands alone).
    A group without cases has n = 0 and empty numbers.
    """
    values = _columns(table, [reference, first, second])
    group = volume_group(values[reference], edges_ml)
    errors = values[[first, second]].sub(values[reference], axis=0).abs()
    rows = []
    for label in [*group_labels(edges_ml), "all"]:
        inside = group.notna() if label == "all" else group == label
        both = errors[inside].dropna()
        gain = both[first] - both[second]
        if patient in table:
            gain = gain.groupby(table.loc[both.index, patient], sort=False).mean()
        row = {"group": label, "first": first, "second": second, "n": len(both), "n_patients": len(gain)}
        row |= {"n_missing": int(inside.sum()) - len(both)}
        row |= {"first_mean_ml": both[first].mean(), "second_mean_ml": both[second].mean()}
        if len(both):
            found = hodges_lehmann(gain, confidence)
            low, high = found.reached_ci(confidence)
            row |= {"shift_ml": found.shift, "shift_ci_low": low, "shift_ci_high": high}
            row |= {"confidence_reached": found.confidence_reached, "p": found.p}
        else:
            nothing = ("shift_ml", "shift_ci_low", "shift_ci_high", "confidence_reached", "p")
            row |= dict.fromkeys(nothing, float("nan"))
        rows.append(row)
    result = pd.DataFrame(rows)
    result["p_holm"] = [*holm(result["p"].iloc[:-1]), result["p"].iloc[-1]]
    return result


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests of a mean difference against a margin that was fixed before."""

    n: int
    margin: float
    mean: float
    mean_ci: tuple[float, float]  # of confidence 1 - 2 alpha: equivalent if inside the margin
    p_lower: float  # of mean <= -margin
    p_upper: float  # of mean >= margin
    p: float  # the larger of both
    equivalent: bool
    alpha: float


def equivalence(differences: ArrayLike, margin: float, alpha: float = 0.05) -> Equivalence:
    """Whether a mean difference lies within plus or minus `margin` (TOST).

    Differences without spread are equivalent or not as their mean says, with p of 0 or 1.

    Raises
    ------
    ValueError : fewer than 3 differences, missing ones, or a margin that is not positive.

    Source: Schuirmann, J Pharmacokinet Biopharm 1987;15:657.
    """
    values = numbers(differences, "differences")
    if values.size < 3 or np.isnan(values).any():
        raise ValueError(f"differences: got {values.size}, {int(np.isnan(values).sum())} missing, wanted at least 3")
    if not margin > 0:
        raise ValueError(f"margin: got {margin}, wanted a positive difference")
    n, mean = values.size, float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(n) if varies(values) else 0.0
    half = float(t.ppf(1 - alpha, n - 1)) * error
    if error > 0:
        p_lower, p_upper = (
            float(t.sf((mean + margin) / error, n - 1)),
            float(t.cdf((mean - margin) / error, n - 1)),
        )
    else:
        p_lower, p_upper = float(mean <= -margin), float(mean >= margin)
    p = max(p_lower, p_upper)
    return Equivalence(n, margin, mean, (mean - half, mean + half), p_lower, p_upper, p, p < alpha, alpha)


def mean_test(values: np.ndarray) -> float:
    """Two-sided p value of the t test that the mean is zero; NaN where the values do not vary."""
    if values.size < 2 or not varies(values):
        return float("nan")
    ratio = float(values.mean()) / (float(values.std(ddof=1)) / math.sqrt(values.size))
    return 2 * float(t.sf(abs(ratio), values.size - 1))


def percent_equivalence(pairs: Pairs, margin_percent: float) -> Equivalence | None:
    """`equivalence` of the differences in percent of the reference, as the margin is; None below 3 positive ones."""
    usable = pairs.reference > 0
    if usable.sum() < 3:
        return None
    return equivalence(100 * pairs.difference[usable] / pairs.reference[usable], margin_percent)


def inside_margins(pairs: Pairs, margin_ml: float = 5.0, margin_percent: float = 20.0) -> dict[str, np.ndarray]:
    """(n,) which pairs lie within 5 ml and 20 % of the reference, and within a run's own margins."""
    error, reference = np.abs(pairs.difference), np.abs(pairs.reference)
    return {
        "within_5_ml": error <= 5,
        "within_20_percent": error <= 0.2 * reference,
        "within_margin_ml": error <= margin_ml,
        "within_margin_percent": error <= margin_percent / 100 * reference,
    }


def within_margins(
    pairs: Pairs, margin_ml: float = 5.0, margin_percent: float = 20.0, confidence: float = 0.95
) -> dict:
    """Shares of `inside_margins` with Wilson intervals."""
    found: dict = {}
    for name, inside in inside_margins(pairs, margin_ml, margin_percent).items():
        found[name] = float(inside.mean())
        found[f"{name}_ci"] = wilson(int(inside.sum()), pairs.n, confidence)
    return found


def interval_coverage(table: pd.DataFrame, edges_ml: Sequence[float] = PAPER_EDGES_ML) -> pd.DataFrame:
    """How often prediction intervals hold the reference volume, by group of reference volume and over all.

    Parameters
    ----------
    table : reference_ml, network_ml, network_low_ml, network_high_ml, and patient_id where patients have several scans;
        rows without an interval are counted as missing.

    Returns
    -------
    group, n, n_missing, covered, coverage with its 95 % `share_interval`, and the median width in ml and relative to
    the volume that was predicted. Every scan counts once, while the intervals are made for a scan of a new patient.
    """
    frame = table.assign(group=volume_group(table["reference_ml"], edges_ml).to_numpy())
    rows = []
    for name in (*group_labels(edges_ml), "all"):
        part = frame if name == "all" else frame[frame["group"] == name]
        known = part[part["network_low_ml"].notna() & part["network_high_ml"].notna()]
        row: dict = {"group": name, "n": len(known), "n_missing": len(part) - len(known)}
        if len(known):
            inside = known["reference_ml"].between(known["network_low_ml"], known["network_high_ml"])
            width = known["network_high_ml"] - known["network_low_ml"]
            low, high = share_interval(inside, known.get("patient_id"))
            row |= {
                "covered": int(inside.sum()),
                "coverage": inside.mean(),
                "coverage_ci_low": low,
                "coverage_ci_high": high,
            }
            row |= {"median_width_ml": width.median(), "median_width_share": (width / known["network_ml"]).median()}
        rows.append(row)
    columns = ["group", "n", "n_missing", "covered", "coverage", "coverage_ci_low", "coverage_ci_high",
               "median_width_ml", "median_width_share"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
