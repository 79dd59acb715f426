"""Volumes as classes and decisions: kappa, thresholds, reclassification, false expansion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from ich.comparison import CLINIC_EDGES_ML, group_labels, volume_group
from ich.pairs import Pairs, flat, pair
from ich.resampling import FEW, resampled_counts, share_interval

ICH_SCORE_ML = 30.0  # Hemphill, Stroke 2001;32:891: one point from 30 ml
# Hanley, Lancet 2019;393:1021 (what evacuation should leave); Hemphill as above; Broderick, Stroke 1993;24:987 (60 ml).
THRESHOLDS_ML = (15.0, ICH_SCORE_ML, 60.0)
EXPANSION_ML, EXPANSION_SHARE = 6.0, 0.33  # see `expanded`


@dataclass(frozen=True)
class Kappa:
    """Agreement of two classifications beyond chance."""

    n: int
    observed: float  # share in the same class
    kappa: float  # NaN where both put every case into one and the same class
    kappa_ci: tuple[float, float]  # takes cases as independent; NaN where no case differs
    weights: str  # "none", "linear" or "quadratic"


def kappa(counts: ArrayLike, weights: str = "linear", confidence: float = 0.95) -> Kappa:
    """Cohen's kappa of a square table of counts.

    Raises
    ------
    ValueError : the table is not square, holds no case or a negative count, or the weights have another name.

    Source: Fleiss, Cohen & Everitt, Psychol Bull 1969;72:323 (standard error).
    """
    table = np.asarray(counts, dtype=float)
    kinds = ("none", "linear", "quadratic")
    if table.ndim != 2 or table.shape[0] != table.shape[1] or table.sum() <= 0 or (table < 0).any():
        raise ValueError(f"counts: got shape {table.shape} with {table.sum():g} cases, wanted a square table of counts")
    if weights not in kinds:
        raise ValueError(f"weights: got {weights!r}, wanted one of {', '.join(kinds)}")
    n, shares = int(table.sum()), table / table.sum()
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    steps = np.abs(np.subtract.outer(np.arange(len(table)), np.arange(len(table)))) / max(len(table) - 1, 1)
    credit = 1 - (steps > 0 if weights == "none" else steps ** {"linear": 1, "quadratic": 2}[weights])
    observed, by_chance = float((credit * shares).sum()), float(rows @ credit @ columns)
    same = float(np.trace(table) / table.sum())
    if 1 - by_chance < 1e-12:
        return Kappa(n, same, float("nan"), (float("nan"), float("nan")), weights)
    value = (observed - by_chance) / (1 - by_chance)
    lines = np.add.outer(credit @ columns, rows @ credit)
    squares = float((shares * (credit * (1 - by_chance) - lines * (1 - observed)) ** 2).sum())
    variance = squares - (observed * by_chance - 2 * by_chance + observed) ** 2
    error = math.sqrt(max(variance, 0.0) / n) / (1 - by_chance) ** 2
    differ = same < 1 and error > 0  # of equal classes the error may come out above 0 by rounding
    half = float(norm.ppf((1 + confidence) / 2)) * error if differ else float("nan")
    if math.isnan(half):
        return Kappa(n, same, value, (half, half), weights)
    return Kappa(n, same, value, (max(-1.0, value - half), min(1.0, value + half)), weights)


def confusion(method: ArrayLike, reference: ArrayLike, edges_ml: Sequence[float] = CLINIC_EDGES_ML) -> pd.DataFrame:
    """Counts of cases by reference class (rows) and method class (columns), every class shown."""
    pairs = pair(method, reference, minimum=1)
    found = pd.crosstab(
        volume_group(pairs.reference, edges_ml).rename("reference"),
        volume_group(pairs.method, edges_ml).rename("method"),
        dropna=False,
    )
    labels = group_labels(edges_ml)
    return found.reindex(index=labels, columns=labels, fill_value=0).rename_axis(index="reference", columns="method")


def threshold_confusion(method: ArrayLike, reference: ArrayLike, threshold_ml: float = ICH_SCORE_ML) -> pd.DataFrame:
    """Counts below and from one threshold on, reference in rows."""
    pairs = pair(method, reference, minimum=1)
    labels = [f"<{threshold_ml:g}", f"≥{threshold_ml:g}"]
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, ((pairs.reference >= threshold_ml).astype(int), (pairs.method >= threshold_ml).astype(int)), 1)
    index, columns = pd.Index(labels, name="reference"), pd.Index(labels, name="method")
    return pd.DataFrame(counts, index=index, columns=columns)


def threshold_accuracy(
    method: ArrayLike,
    reference: ArrayLike,
    thresholds_ml: Sequence[float] = THRESHOLDS_ML,
    confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> pd.DataFrame:
    """How often "at least so many ml" is called right.

    Parameters
    ----------
    patients : the patient of each case; without it every case is a patient.

    Returns
    -------
    One row per threshold: threshold_ml, n, n_positive (reference), and the shares of `called_right` with their
    intervals: sensitivity, specificity, ppv (positive predictive value) and npv.
    """
    pairs = pair(method, reference, minimum=1)
    owner = _kept(patients, pairs)
    rows = []
    for threshold in thresholds_ml:
        positive, called = pairs.reference >= threshold, pairs.method >= threshold
        row: dict = {"threshold_ml": float(threshold), "n": pairs.n, "n_positive": int(positive.sum())}
        rows.append(flat(row | called_right(called, positive, owner, confidence)))
    return pd.DataFrame(rows)


def called_right(
    called: np.ndarray, truth: np.ndarray, owner: np.ndarray | None = None, confidence: float = 0.95
) -> dict:
    """sensitivity, specificity, ppv and npv of a call (n,) against the truth (n,), each with its interval `<name>_ci`.

    Parameters
    ----------
    owner : (n,) the patient of each; None where each is a patient. A share of nobody is NaN.
    """
    found: dict = {}
    for name, group, right in (
        ("sensitivity", truth, called),
        ("specificity", ~truth, ~called),
        ("ppv", called, truth),
        ("npv", ~called, ~truth),
    ):
        found[name] = float(right[group].mean()) if group.any() else float("nan")
        found[f"{name}_ci"] = share_interval(right[group], None if owner is None else owner[group], confidence)
    return found


def _kept(patients: ArrayLike | None, pairs: Pairs) -> np.ndarray:
    """The patient of each pair, a patient of its own where none is given."""
    whose = pairs.of(patients)
    return np.arange(pairs.n) if whose is None else whose


def reclassification(
    method: ArrayLike,
    reference: ArrayLike,
    threshold_ml: float = ICH_SCORE_ML,
    confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> dict:
    """Cases whose ICH-score volume point changes when the method replaces the reference.

    Returns
    -------
    threshold_ml, n, gained (method gives a point, reference none), lost, share (gained and lost), share_ci
    (`ich.resampling.share_interval`).
    """
    pairs = pair(method, reference, minimum=1)
    gained = (pairs.method >= threshold_ml) & (pairs.reference < threshold_ml)
    lost = (pairs.method < threshold_ml) & (pairs.reference >= threshold_ml)
    return {
        "threshold_ml": threshold_ml,
        "n": pairs.n,
        "gained": int(gained.sum()),
        "lost": int(lost.sum()),
        "share": float((gained | lost).mean()),
        "share_ci": share_interval(gained | lost, _kept(patients, pairs), confidence),
    }


@dataclass(frozen=True)
class FalseExpansion:
    """How often a hematoma that did not grow would be called expanded (>33 % or >6 ml)."""

    n: int
    replaced: int  # cases: reference at baseline, method at follow-up
    replaced_share: float
    replaced_share_ci: tuple[float, float]  # of `ich.resampling.share_interval`
    repeated_share: float  # method at both times
    repeated_share_ci: tuple[float, float]  # bootstrap over patients; NaN of few of them, or where none differs
    n_resamples: int


def expanded(baseline_ml: ArrayLike, follow_up_ml: ArrayLike) -> np.ndarray:
    """Whether growth exceeds 33 % or 6 ml; from nothing, 6 ml alone.

    Source: Brouwers et al., JAMA Neurol 2014;71:158.
    """
    first, second = np.asarray(baseline_ml, dtype=float), np.asarray(follow_up_ml, dtype=float)
    return ((first > 0) & (second > (1 + EXPANSION_SHARE) * first)) | (second - first > EXPANSION_ML)


def false_expansion(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    edges_ml: Sequence[float] = CLINIC_EDGES_ML,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
    patients: ArrayLike | None = None,
) -> FalseExpansion:
    """The rate of "expansion" that measurement error alone would cause in hematomas that stay as they are.

    Two designs. Replaced: the reference is measured at baseline and the method at follow-up, counted
    directly. Repeated: the method is used at both times. Case i errs at baseline as it did here; at follow-up
    it takes the relative error of another case j of its volume group, over all ordered pairs of a group. The
    two errors are independent then; a method that errs alike on one hematoma twice does better.

    Returns
    -------
    FalseExpansion : the repeated share is NaN where no group holds two cases with a positive reference.
    """
    pairs = pair(method, reference, minimum=1)
    owner = np.unique(pd.factorize(_kept(patients, pairs))[0], return_inverse=True)[1]
    m = int(owner.max()) + 1
    replaced = expanded(pairs.reference, pairs.method)
    events, partners = np.zeros((pairs.n, pairs.n)), np.zeros((pairs.n, pairs.n))
    group = volume_group(pairs.reference, edges_ml).cat.codes.to_numpy()
    for code in np.unique(group[pairs.reference > 0]):
        inside = np.flatnonzero((group == code) & (pairs.reference > 0))
        follow_up = np.outer(pairs.reference[inside], pairs.method[inside] / pairs.reference[inside])
        block = np.ix_(inside, inside)
        partners[block] = 1 - np.eye(inside.size)
        events[block] = partners[block] * expanded(pairs.method[inside, None], follow_up)
    counts = resampled_counts(m, n_resamples, seed)[:, owner].astype(float)
    # A case drawn twice is its own partner no more than a case drawn once.
    upper = np.einsum("bi,bi->b", counts @ events, counts)
    lower = np.einsum("bi,bi->b", counts @ partners, counts)
    share, interval = float("nan"), (float("nan"), float("nan"))
    if partners.sum() > 0:
        share = float(events.sum() / partners.sum())
        resampled = upper[lower > 0] / lower[lower > 0]
        if m >= FEW and np.ptp(resampled) > 0:
            ends = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
            interval = (float(ends[0]), float(ends[1]))
    return FalseExpansion(
        n=pairs.n,
        replaced=int(replaced.sum()),
        replaced_share=float(replaced.mean()),
        replaced_share_ci=share_interval(replaced, _kept(patients, pairs), confidence),
        repeated_share=share,
        repeated_share_ci=interval,
        n_resamples=n_resamples,
    )
