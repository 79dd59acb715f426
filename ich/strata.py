"""Strata of cases, and agreement of methods with one reference over all cases and within them (agreement.csv)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ich.comparison import holm, mean_test
from ich.nonparametric import nonparametric_limits
from ich.pairs import FEWEST, flat, only, require_columns
from ich.shared_statistics import LIMITS, SharedStatistics, shared_statistics, table_pairs
from ich.volume_limits import QUOTED_AT_ML, RegressionLimits

MOST_VALUES = 6  # of a column of numbers whose values are strata themselves
_SHARES = ("within_5_ml", "within_5_ml_ci", "within_20_percent", "within_20_percent_ci")


def agreement_table(
    table: pd.DataFrame,
    reference: str,
    methods: Sequence[str],
    strata: Sequence[str] = (),
    *,
    case: str = "case_id",
    patient: str | None = None,
    margin_ml: float = 5.0,
    margin_percent: float = 20.0,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> pd.DataFrame:
    """Agreement of each method with the reference, over all cases and within strata.

    Parameters
    ----------
    strata : columns of `table`; each of their values is a stratum, named "column: value" ("not stated" where there is
        none). Of numbers with over six values the thirds of the cases are strata, "column: least to most".
    patient : column of patients; intervals of concordance and ICC are then over patients (`ich.linked`), and Lin's and
        McGraw & Wong's without it. Where some have several cases, limits and intervals come from `ich.linked`, tests
        from the patients' means, and `note` says that correlations take cases as independent.

    Returns
    -------
    One row per method and stratum ("all" first): counts, bias, SD, limits with exact intervals, percent and ratio
    limits, median difference, the limits that `ich.assumptions` speaks for, limits along a regression (difference =
    regression_b0 + slope A, |residual| = regression_c0 + regression_c1 A, A the mean of both) and their values and
    intervals where A is 5, 30 and 60 ml (empty beyond the volumes that were seen), percentiles, proportional bias, CCC,
    ICC(A,1), correlations, errors (mean and median absolute, root mean square), shares within 5 ml and 20 %, TOST at
    the margins, `bias_p` (t test of no bias) and `bias_p_holm` (over the strata rows of the table). `note` says what is
    missing; a stratum with fewer than 3 pairs has its n and a note.
    """
    rows = []
    for method in methods:
        for stratum, part in strata_of(table, strata):
            row: dict = {"method": method, "reference": reference, "stratum": stratum}
            pairs, patients = table_pairs(part, method, reference, case, patient, minimum=0)
            n_patients = pairs.n if patients is None else len(set(patients))
            row |= {"n": pairs.n, "n_patients": n_patients, "n_missing": len(pairs.missing_ids)}
            if pairs.n < FEWEST:
                row |= {"bias_p": float("nan"), "note": f"{pairs.n} pairs: no limits"}
            else:
                shared = shared_statistics(pairs, patients, margin_ml, margin_percent, confidence, multiplier)
                row |= _statistics(shared)
            rows.append(row)
    found = pd.DataFrame(rows)
    inside = found["stratum"] != "all"
    found["bias_p_holm"] = found["bias_p"]
    found.loc[inside, "bias_p_holm"] = holm(found.loc[inside, "bias_p"])
    return found[[*(name for name in found if name != "note"), "note"]]


def in_strata(table: pd.DataFrame, strata: Sequence[str]) -> pd.DataFrame:
    """Each row once for every stratum that it is in, which the categorical column `stratum` names ("all" first).

    Parameters
    ----------
    strata : as of `agreement_table`.
    """
    parts = strata_of(table, strata)
    long = pd.concat([part.assign(stratum=name) for name, part in parts], ignore_index=True)
    return long.assign(stratum=pd.Categorical(long["stratum"], [name for name, _ in parts], ordered=True))


def strata_of(table: pd.DataFrame, strata: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """All rows, then those of each stratum, as `agreement_table` names them."""
    require_columns(table, *strata, purpose=" to stratify by")
    parts = [("all", table)]
    for name in strata:
        groups = table.groupby(_grouped(table[name]), observed=True, dropna=False)
        parts += [(f"{name}: {'not stated' if pd.isna(value) else value}", part) for value, part in groups]
    return parts


def _grouped(column: pd.Series) -> pd.Series:
    """A column whose values are strata; of numbers that take many values, thirds of the cases, named by their range."""
    if not pd.api.types.is_numeric_dtype(column) or column.nunique() <= MOST_VALUES:
        return column
    thirds = pd.qcut(column, 3, labels=False, duplicates="drop")
    ranges = column.groupby(thirds).agg(["min", "max"])
    names = {third: f"{low:g} to {high:g}" for third, (low, high) in zip(ranges.index, ranges.to_numpy(), strict=True)}
    return thirds.map(names).astype(pd.CategoricalDtype(list(names.values()), ordered=True))


def _statistics(shared: SharedStatistics) -> dict:
    """Row of the table from `bias_p` on."""
    pairs, slope, notes = shared.pairs, shared.regression, list(shared.notes)
    row: dict = {"bias_p": mean_test(shared.alone.difference) if shared.limits.sd > 0 else float("nan"), "note": ""}
    row |= only(shared.limits, *LIMITS)
    for scale, found in (("percent", shared.percent), ("ratio", shared.ratio)):
        if found is not None:
            row |= {f"{scale}_n": found.n} | {f"{scale}_{name}": value for name, value in only(found, *LIMITS).items()}
    if slope is not None:
        row |= {
            "slope": slope.b1,
            "slope_ci": slope.b1_ci,
            "slope_p": slope.b1_p,
            "spread_slope_p": slope.c1_p,
            "regression_b0": slope.b0,
            "regression_c0": slope.c0,
            "regression_c1": slope.c1,
        } | _limits_at(slope)
    row |= {name: value for name, value in shared.coefficients.items() if not name.startswith("icc_c1")}
    row |= {"median_difference": float(np.median(pairs.difference))}
    percentiles = nonparametric_limits(pairs.method, pairs.reference)
    row |= {"percentile_loa_lower": percentiles.loa_lower, "percentile_loa_upper": percentiles.loa_upper}
    row |= {"limits_to_quote": shared.limits_to_quote["limits"]}
    error = np.abs(pairs.difference)
    row |= {"mean_absolute_error": error.mean(), "median_absolute_error": float(np.median(error))}
    row |= {"root_mean_square_error": float(np.sqrt((error**2).mean()))}
    row |= {name: shared.within[name] for name in _SHARES}
    for name, test in (("tost_p", shared.tost), ("tost_percent_p", shared.tost_percent)):
        row[name] = float("nan") if test is None else test.p
    if shared.owner is not None:
        notes.append(f"correlations take {pairs.n} cases of {shared.alone.n} patients as independent")
    return flat(row | {"note": "; ".join(notes)})


def _limits_at(slope: RegressionLimits) -> dict[str, float]:
    """Limits along the regression at the volumes to quote; NaN where no pair is as small or as large."""
    found = slope.at(QUOTED_AT_ML).drop(columns="bias")
    found.loc[~found["volume"].between(*slope.seen), found.columns != "volume"] = float("nan")
    return {
        f"{name.removesuffix(end)}_at_{volume:g}_ml{end}": float(row[name])
        for volume, row in zip(QUOTED_AT_ML, found.to_dict("records"), strict=True)
        for end in ("", "_ci_low", "_ci_high")
        for name in (f"loa_lower{end}", f"loa_upper{end}")
    }
