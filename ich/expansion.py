"""Growth between two scans of a patient: does a method find the hematomas that expanded, and how does growth agree?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ich.bland_altman import bland_altman
from ich.pairs import FEWEST, flat, numbers, only, require_columns
from ich.shared_statistics import LIMITS
from ich.volume_classes import called_right, expanded, kappa


def two_scans(
    table: pd.DataFrame, columns: Sequence[str], *, visit: str, baseline: str, patient: str = "patient_id"
) -> pd.DataFrame:
    """The volumes of both scans of each patient.

    Parameters
    ----------
    table : one row per scan: `patient`, `visit` (which of two scans it is) and volumes, ml, in `columns`.
    baseline : the value of `visit` that means the first scan; the other value means the follow-up.

    Returns
    -------
    One row per patient who has both scans, indexed by patient: "<column> baseline" and "<column> follow-up", ml.

    Raises
    ------
    ValueError : a column that is not there, `visit` has other than two values of which `baseline` is one, a patient has
        two scans of one kind, or nobody has both.
    """
    require_columns(table, *columns, visit, patient)
    kinds = sorted(table[visit].dropna().astype(str).unique())
    if len(kinds) != 2 or baseline not in kinds:
        raise ValueError(
            f"{visit}: found {', '.join(kinds) or 'nothing'}; wanted two values, {baseline!r} for the first scan and "
            "another for the second"
        )
    scans = pd.DataFrame({"whose": table[patient].astype(str), "when": table[visit].astype(str)})
    double = scans.duplicated(keep=False) & table[visit].notna()
    if double.any():
        one = scans[double].iloc[0]
        rows = table[(scans["whose"] == one["whose"]) & (scans["when"] == one["when"])]
        named = f" (cases {', '.join(rows['case_id'].astype(str))})" if "case_id" in rows else ""
        raise ValueError(
            f"{patient} {one['whose']} has {len(rows)} scans with {visit} {one['when']}{named}, wanted one of each"
        )
    parts = []
    for kind, said in ((baseline, "baseline"), (next(each for each in kinds if each != baseline), "follow-up")):
        rows = table[scans["when"] == kind]
        volumes = {f"{column} {said}": numbers(rows[column], column) for column in columns}
        parts.append(pd.DataFrame(volumes, index=scans.loc[rows.index, "whose"]))
    found = parts[0].join(parts[1], how="inner").rename_axis(patient)
    if found.empty:
        raise ValueError(f"no {patient} has both scans")
    return found


def expansion_table(
    scans: pd.DataFrame, reference: str, methods: Sequence[str], confidence: float = 0.95
) -> pd.DataFrame:
    """Expansion (>33 % or >6 ml) by each method against that by the reference, and its growth in ml.

    Parameters
    ----------
    scans : of `two_scans`.

    Returns
    -------
    One row per method: method, n (patients with both volumes by both), n_expanded (by the reference), n_called (by the
    method), sensitivity, specificity, ppv, npv (with the intervals of `ich.resampling.share_interval`; NaN where nobody
    can be counted), kappa with its interval, and bias, sd and limits of agreement of the growth, ml (empty below 3
    patients).

    Source: expansion Brouwers et al., JAMA Neurol 2014;71:158; kappa `ich.volume_classes.kappa`.
    """
    rows = []
    for method in methods:
        wanted = [f"{column} {when}" for column in (reference, method) for when in ("baseline", "follow-up")]
        known = scans[wanted].dropna()
        first, second, its_first, its_second = known.to_numpy().T
        truth, called = expanded(first, second), expanded(its_first, its_second)
        row: dict = {"method": method, "n": len(known), "n_expanded": int(truth.sum()), "n_called": int(called.sum())}
        row |= called_right(called, truth, confidence=confidence)
        counts = np.zeros((2, 2), dtype=int)
        np.add.at(counts, (truth.astype(int), called.astype(int)), 1)
        agreed = kappa(counts, "none", confidence) if len(known) else None
        row |= (
            {"kappa": float("nan"), "kappa_ci": (float("nan"),) * 2}
            if agreed is None
            else only(agreed, "kappa", "kappa_ci")
        )
        if len(known) >= FEWEST:
            row |= only(bland_altman(its_second - its_first, second - first, confidence=confidence), *LIMITS)
        rows.append(flat(row))
    return pd.DataFrame(rows)
