"""Agreement of methods with one reference, over all cases and within strata: rows of agreement.csv."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ich.assumptions import assumption_checks, limits_to_quote
from ich.bland_altman import (
    bland_altman,
    bland_altman_percent,
    bland_altman_ratio,
)
from ich.comparison import equivalence, holm, inside_margins, mean_test, percent_equivalence, within_margins
from ich.linked import coefficient_intervals, owners, per_patient
from ich.nonparametric import nonparametric_limits
from ich.pairs import flat, only, or_note, pair
from ich.reliability import concordance, correlations, intraclass
from ich.resampling import share_interval
from ich.volume_limits import QUOTED_AT_ML, RegressionLimits, regression_limits


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
    strata : columns of `table`; each of their values is a stratum, named "column: value".
    patient : column of patients; intervals of concordance and ICC are then over patients (`ich.linked`), and Lin's and
        McGraw & Wong's without it. Where some have several cases, limits and intervals come from `ich.linked`, tests
        from the patients' means, and `note` says that correlations take cases as independent.

    Returns
    -------
    One row per method and stratum ("all" first): counts, bias, SD, limits with exact intervals, percent and ratio
    limits, median difference, the limits that `ich.assumptions` speaks for, limits along a regression (difference =
    regression_b0 + slope A, |residual| = regression_c0 + regression_c1 A, A the mean of both) and their values and
    intervals where A is 5, 30 and 60 ml (empty beyond the volumes that were seen), percentiles, proportional bias, CCC,
    ICC(A,1), correlations, errors, shares within 5 ml and 20 %, TOST at the margins, `bias_p` (t test of no bias) and
    `bias_p_holm` (over the strata rows of the table). `note` says what is missing; a stratum with fewer than 3 pairs
    has its n and a note.
    """
    rows = []
    for method in methods:
        for stratum, part in _strata(table, strata):
            head = {"method": method, "reference": reference, "stratum": stratum}
            row = _agreement_row(
                part, method, reference, case, patient, margin_ml, margin_percent, confidence, multiplier
            )
            rows.append(head | row)
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


def _agreement_row(part, method, reference, case, patient, margin_ml, margin_percent, confidence, multiplier) -> dict:
    for name in (method, reference, *([patient] if patient else [])):
        if name not in part:
            raise ValueError(f"no column {name}; found {', '.join(map(str, part.columns))}")
    pairs = pair(
        part[method],
        part[reference],
        part.get(case),
        names=(method, reference),
        minimum=0,
    )
    patients = pairs.of(part[patient] if patient else None)
    owner = owners(patients, pairs.n)
    row: dict = {"n": pairs.n, "n_patients": pairs.n if owner is None else int(owner.max()) + 1}
    row |= {"n_missing": len(pairs.missing_ids), "bias_p": float("nan"), "note": ""}
    if pairs.n < 3:
        return row | {"note": f"{pairs.n} pairs: no limits"}
    x, y = pairs.method, pairs.reference
    notes: list[str] = []
    options = {"patients": patients, "confidence": confidence, "multiplier": multiplier}
    limits = bland_altman(x, y, **options)
    names = ("bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci")
    row |= only(limits, *names)
    alone = per_patient(pairs, owner)
    row["bias_p"] = mean_test(alone.difference) if limits.sd > 0 else float("nan")
    for scale, statistic in (("percent", bland_altman_percent), ("ratio", bland_altman_ratio)):
        found = or_note(notes, statistic, x, y, **options)
        if found is not None:
            row |= {f"{scale}_n": found.n} | {f"{scale}_{name}": value for name, value in only(found, *names).items()}
    slope: RegressionLimits | None = or_note(notes, regression_limits, x, y, **options)
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
    row |= only(concordance(x, y, confidence), "ccc", "ccc_ci")
    icc = intraclass(np.column_stack([x, y]), confidence).set_index("type").loc["ICC(A,1)"]
    row |= {"icc_a1": icc["icc"], "icc_a1_ci": (icc["ci_low"], icc["ci_high"])} | correlations(pairs, notes)
    error = np.abs(pairs.difference)
    row |= {"median_difference": float(np.median(pairs.difference))}
    percentiles = nonparametric_limits(x, y)
    row |= {"percentile_loa_lower": percentiles.loa_lower, "percentile_loa_upper": percentiles.loa_upper}
    row |= {"limits_to_quote": limits_to_quote(assumption_checks(x, y, patients))["limits"]}
    row |= {"mean_absolute_error": error.mean(), "median_absolute_error": float(np.median(error))}
    within = within_margins(pairs, margin_ml, margin_percent, confidence)
    row |= {
        name: within[name] for name in ("within_5_ml", "within_5_ml_ci", "within_20_percent", "within_20_percent_ci")
    }
    if patients is not None:
        row |= coefficient_intervals(pairs, owner, confidence)
    if owner is not None:
        inside = inside_margins(pairs)
        row |= {
            f"{name}_ci": share_interval(inside[name], owner, confidence)
            for name in ("within_5_ml", "within_20_percent")
        }
        notes.append(f"correlations take {pairs.n} cases of {row['n_patients']} patients as independent")
    few = alone.n < 3
    row["tost_p"] = float("nan") if few else equivalence(alone.difference, margin_ml).p
    tost_percent = None if few else percent_equivalence(alone, margin_percent)
    row["tost_percent_p"] = float("nan") if tost_percent is None else tost_percent.p
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
