"""Whether scans with and without blood are told apart: sensitivity, specificity, and the AUC of the marked volume."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm

from ich import tables
from ich.cohort import EMPTY
from ich.pairs import flat
from ich.volume_classes import called_right

MARKED_ML = (0.0, 0.1, 1.0)  # volume from which on a scan counts as marked; 0: any


def without_blood(run: Path) -> pd.DataFrame:
    """Rows of the cohort table of scans without blood that a network can be tested on.

    They are cases whose reference mask is empty and of which nobody states a type, so that they are in no split; of
    patients that no split teaches or chooses by, and not given to such a split. The same scan counts once, and not
    where it is that of a case with blood.
    """
    cohort, splits = (tables.read(run / "tables" / f"{name}.csv") for name in ("cohort", "splits"))
    held = splits.loc[splits["split"] != "test", "patient_id"]
    found = cohort[(cohort["reason"] == EMPTY) & cohort["hemorrhage_type"].isna()]
    if "split" in found:
        found = found[found["split"].isna() | (found["split"] == "test")]
    found = found[~found["patient_id"].isin(held)]
    pixels = found["content"].where(found["image"].notna())  # of a mask alone the digest is that of an empty mask
    seen = cohort.loc[cohort["included"], "content"].dropna()
    again = pixels.notna() & (pixels.duplicated() | pixels.isin(seen))
    return found[~again].reset_index(drop=True)


def failures(run: Path) -> pd.DataFrame:
    """Rows of exclusions.csv but those of scans without blood, which are counted as such."""
    excluded, counted = tables.read(run / "tables" / "exclusions.csv"), run / "tables" / "without_blood.csv"
    if not counted.is_file():
        return excluded
    names = pd.read_csv(counted, dtype="str")["case_id"]
    return excluded[~(excluded["case_id"].isin(names) & (excluded["reason"] == EMPTY))]


@dataclass(frozen=True)
class Auc:
    """Chance that a scan with blood has the larger volume of two, ties counting half."""

    auc: float  # NaN without scans of both kinds
    auc_ci: tuple[float, float]  # NaN below three patients, and where both kinds are parted without error


def auc_of(marked_ml: ArrayLike, blood: ArrayLike, patients: ArrayLike | None = None, confidence: float = 0.95) -> Auc:
    """Area under the curve of sensitivity over 1 - specificity, at every volume that could part the scans.

    Parameters
    ----------
    marked_ml : (n,) volumes. blood : (n,) whether the reference has any.
    patients : the patient of each scan; without it every scan is a patient.

    Source: DeLong et al., Biometrics 1988;44:837; several scans a patient Obuchowski, Biometrics 1997;53:567; on the
    scale of the logit, so that the interval stays within 0..1.
    """
    marked, truth = np.asarray(marked_ml, dtype=float), np.asarray(blood, dtype=bool)
    owner = pd.factorize(np.arange(marked.size) if patients is None else np.asarray(patients, dtype=object))[0]
    m, n = int(truth.sum()), int((~truth).sum())
    nothing = (float("nan"), float("nan"))
    if not m or not n:
        return Auc(float("nan"), nothing)
    with_blood, none = marked[truth], marked[~truth]
    won = _share_below(np.sort(none), with_blood)  # of each scan with blood, of the pairs that it is in
    lost = 1 - _share_below(np.sort(with_blood), none)
    value = float(won.mean())
    n_patients = int(owner.max()) + 1
    of_blood = np.bincount(owner[truth], won - value, minlength=n_patients)
    of_none = np.bincount(owner[~truth], lost - value, minlength=n_patients)
    clusters, others = np.unique(owner[truth]).size, np.unique(owner[~truth]).size
    if min(clusters, others) < 2 or n_patients < 3 or not 0 < value < 1:
        return Auc(value, nothing)
    variance = clusters / (clusters - 1) * float(of_blood @ of_blood) / m**2
    variance += others / (others - 1) * float(of_none @ of_none) / n**2
    variance += 2 * n_patients / (n_patients - 1) * float(of_blood @ of_none) / (m * n)
    half = float(norm.ppf((1 + confidence) / 2)) * np.sqrt(max(variance, 0.0)) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return Auc(value, (float(low), float(high)))


def _share_below(among: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each value, the share of `among`, sorted, that is below it, ties counting half."""
    below, up_to = (np.searchsorted(among, values, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * among.size)


def detection(marked_ml: ArrayLike, blood: ArrayLike, patients: ArrayLike) -> pd.DataFrame:
    """How scans are called by the volume that is marked on them, from each volume of `MARKED_ML` on.

    Parameters
    ----------
    marked_ml : (n,) volumes, NaN where a scan has none. blood : (n,) whether the reference has any. patients : (n,).

    Returns
    -------
    marked, n_missing (scans without a volume, in no other number), n_with, n_found, n_without, n_false, sensitivity,
    specificity, ppv and npv with their intervals over patients, auc with its interval (the same in every row),
    false_max_ml: the largest volume on a scan without blood.
    """
    marked, truth = np.asarray(marked_ml, dtype=float), np.asarray(blood, dtype=bool)
    known = ~np.isnan(marked)
    marked, truth, owner = marked[known], truth[known], np.asarray(patients, dtype=object)[known]
    area = auc_of(marked, truth, owner)
    rows = []
    for least in MARKED_ML:
        called = marked >= least if least else marked > 0
        row: dict = {"marked": f"from {least:g} ml" if least else "at all", "n_missing": int((~known).sum())}
        row |= {"n_with": int(truth.sum()), "n_found": int((called & truth).sum())}
        row |= {"n_without": int((~truth).sum()), "n_false": int((called & ~truth).sum())}
        rows.append(flat(row | called_right(called, truth, owner) | vars(area)))
    return pd.DataFrame(rows).assign(false_max_ml=marked[~truth].max(initial=0.0))


def by_case(test: pd.DataFrame, blank: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """What each reader marks on each scan: case_id, patient_id, reader, blood (of the reference), marked_ml.

    Parameters
    ----------
    test, blank : rows of the cohort table of scans with and without blood.
    metrics : as `ich.measure.study_tables` has them of both; a reader without a row of a scan has marked_ml missing.
    """
    names = ["case_id", "patient_id"]
    scans = pd.concat([test[names].assign(blood=True), blank[names].assign(blood=False)])
    rows = metrics.loc[metrics["label"] == "blood", ["case_id", "reader", "predicted_ml"]]
    readers = pd.DataFrame({"reader": rows["reader"].unique()})
    found = scans.merge(readers, how="cross").merge(rows, on=["case_id", "reader"], how="left")
    return found.rename(columns={"predicted_ml": "marked_ml"}).sort_values("reader", kind="stable", ignore_index=True)


def by_reader(cases: pd.DataFrame) -> pd.DataFrame:
    """`detection` of each reader of `by_case`, with a column reader in front."""
    tables_of = [
        detection(part["marked_ml"], part["blood"], part["patient_id"]).assign(reader=reader)
        for reader, part in cases.groupby("reader")
    ]
    found = pd.concat(tables_of, ignore_index=True)
    return found[["reader", *found.columns.drop("reader")]]
