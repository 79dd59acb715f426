"""Statistics of one method against one reference that `ich agree` and a row of agreement.csv have in common."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ich.assumptions import assumption_checks, limits_to_quote
from ich.bland_altman import BlandAltman, bland_altman, bland_altman_percent, bland_altman_ratio
from ich.comparison import Equivalence, equivalence, inside_margins, percent_equivalence, within_margins
from ich.linked import coefficient_intervals, owners, per_patient
from ich.pairs import FEWEST, Pairs, only, or_note, pair, require_columns
from ich.reliability import concordance, correlations, intraclass
from ich.resampling import share_interval
from ich.volume_limits import RegressionLimits, regression_limits

LIMITS = ("bias", "bias_ci", "sd", "loa_lower", "loa_upper", "loa_lower_ci", "loa_upper_ci")  # of BlandAltman


@dataclass(frozen=True, eq=False)
class SharedStatistics:
    """At least three pairs, and what is known of them; what these data do not define is None and named in `notes`."""

    pairs: Pairs
    patients: np.ndarray | None  # (n,) whose pair each is
    owner: np.ndarray | None  # (n,) number of the patient, where some have several pairs
    alone: Pairs  # one for each patient, for tests
    limits: BlandAltman
    percent: BlandAltman | None
    ratio: BlandAltman | None
    regression: RegressionLimits | None
    coefficients: dict[str, Any]  # ccc, icc_a1, icc_c1 and their intervals `_ci`, pearson_r, spearman_rho
    within: dict[str, Any]  # shares of `inside_margins` and their intervals `_ci`
    tost: Equivalence | None
    tost_percent: Equivalence | None
    checks: dict
    limits_to_quote: dict
    notes: list[str]


def table_pairs(
    table: pd.DataFrame, method: str, reference: str, case: str, patient: str | None, minimum: int = FEWEST
) -> tuple[Pairs, np.ndarray | None]:
    """Complete pairs of two columns of a table, and the patient of each (n,) where a column of them is named.

    Raises
    ------
    ValueError : a column that is not there, a case without a patient, and what `ich.pairs.pair` refuses.
    """
    require_columns(table, method, reference, patient)
    pairs = pair(table[method], table[reference], table.get(case), names=(method, reference), minimum=minimum)
    if patient is None:
        return pairs, None
    patients = table[patient].to_numpy(dtype=object)[pairs.kept]
    if pd.isna(patients).any():
        raise ValueError(f"{patient}: case {pairs.ids[pd.isna(patients).argmax()]} has no patient")
    return pairs, patients


def shared_statistics(
    pairs: Pairs,
    patients: np.ndarray | None,
    margin_ml: float,
    margin_percent: float,
    confidence: float,
    multiplier: float,
) -> SharedStatistics:
    """`SharedStatistics` of at least three pairs.

    Parameters
    ----------
    patients : (n,) or None. Intervals of concordance and ICC(A,1) are then by jackknife over patients, Lin's and McGraw
        & Wong's without. Where some have several pairs, limits and intervals come from `ich.linked` and tests from the
        patients' means.
    """
    x, y = pairs.method, pairs.reference
    owner = owners(patients, pairs.n)
    alone = per_patient(pairs, owner)
    notes: list[str] = []
    options: dict[str, Any] = {"patients": patients, "confidence": confidence, "multiplier": multiplier}
    limits = bland_altman(x, y, **options)
    percent = or_note(notes, bland_altman_percent, x, y, **options)
    ratio = or_note(notes, bland_altman_ratio, x, y, **options)
    regression = or_note(notes, regression_limits, x, y, **options)
    coefficients = only(concordance(x, y, confidence), "ccc", "ccc_ci")
    icc = intraclass(np.column_stack([x, y]), confidence).set_index("type")
    for name, kind in (("icc_a1", "ICC(A,1)"), ("icc_c1", "ICC(C,1)")):
        coefficients |= {name: icc.loc[kind, "icc"], f"{name}_ci": tuple(icc.loc[kind, ["ci_low", "ci_high"]])}
    coefficients |= correlations(pairs, notes)
    within = within_margins(pairs, margin_ml, margin_percent, confidence)
    if patients is not None:
        coefficients |= coefficient_intervals(pairs, owner, confidence)
    if owner is not None:
        coefficients["icc_c1_ci"] = None
        for name, inside in inside_margins(pairs, margin_ml, margin_percent).items():
            within[f"{name}_ci"] = share_interval(inside, owner, confidence)
    few = alone.n < 3
    checks = assumption_checks(x, y, patients)
    return SharedStatistics(
        pairs=pairs,
        patients=patients,
        owner=owner,
        alone=alone,
        limits=limits,
        percent=percent,
        ratio=ratio,
        regression=regression,
        coefficients=coefficients,
        within=within,
        tost=None if few else equivalence(alone.difference, margin_ml),
        tost_percent=None if few else percent_equivalence(alone, margin_percent),
        checks=checks,
        limits_to_quote=limits_to_quote(checks),
        notes=notes,
    )
