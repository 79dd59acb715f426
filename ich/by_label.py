"""What the table of metrics says of each label and of single lesions: overlap, misses, false alarms, lesions found."""

import itertools
from collections.abc import Collection

import pandas as pd

from ich.overlap import LESION_BINS_ML, lesion_suffix
from ich.resampling import share_interval
from ich.tables import LABELS

MEDIANS = ("sensitivity", "precision", "hd95_mm", "assd_mm", "nsd_2mm")


def typed(metrics: pd.DataFrame, known: Collection[str] = ()) -> pd.DataFrame:
    """The rows to tell labels by: of blood alone for readers whose masks, or references, name no type.

    Label 1 alone names none, as binary masks have it, but for readers `known` to tell types: a network of this package
    that marks none of a type has missed it.
    """
    other = ~metrics["label"].isin(["blood", "parenchymal"])
    reference = bool((metrics.loc[other, "reference_ml"] > 0).any())
    named = {reader for reader, part in metrics[other].groupby("reader") if (part["predicted_ml"] > 0).any()}
    named |= set(known)
    return metrics[(metrics["label"] == "blood") | (reference & metrics["reader"].isin(named))]


def own_label_ml(metrics: pd.DataFrame, reader: str, label: str) -> pd.Series:
    """Volume, ml, that a reader marks with one label, by case; empty for a reader whose masks name no type."""
    told = typed(metrics[metrics["reader"] == reader])
    marked = told[told["label"] == label].set_index("case_id")["predicted_ml"]
    cases = told.loc[told["label"] != "blood", "case_id"].unique()
    return marked.reindex(cases, fill_value=0.0)


def volumes_of(metrics: pd.DataFrame, label: str) -> pd.DataFrame:
    """Volumes of one label, laid out like measurements.csv, of the cases whose reference has it.

    Parameters
    ----------
    metrics : rows of `typed`.

    Returns
    -------
    case_id, patient_id, hemorrhage_type, reference_ml, and `<reader>_ml` of each reader.
    """
    marked = metrics[(metrics["label"] == label) & (metrics["reference_ml"] > 0)]
    found = marked[["case_id", "patient_id", "hemorrhage_type", "reference_ml"]].drop_duplicates("case_id")
    for reader, rows in marked.groupby("reader"):
        found[f"{reader}_ml"] = found["case_id"].map(rows.set_index("case_id")["predicted_ml"])
    return found.reset_index(drop=True)


def overlap_by_label(metrics: pd.DataFrame) -> pd.DataFrame:
    """Overlap of each reader by label, over the cases in which the reference has it; missed ones count as Dice 0.

    Returns
    -------
    reader, label, n, dice_q1, dice_median, dice_q3, and the medians of sensitivity, precision, hd95_mm (infinite where
    more than half are missed), assd_mm and nsd_2mm.
    """
    rows = []
    for (reader, label), part in _groups(metrics[metrics["reference_ml"] > 0]):
        low, middle, high = part["dice"].quantile([0.25, 0.5, 0.75])
        row = {"reader": reader, "label": label, "n": len(part)}
        row |= {"dice_q1": low, "dice_median": middle, "dice_q3": high}
        rows.append(row | {name: part[name].median() for name in MEDIANS})
    return pd.DataFrame(rows)


def misses_and_false_alarms(metrics: pd.DataFrame) -> pd.DataFrame:
    """How often a label is missed where the reference has it, and marked where the reference has none.

    Parameters
    ----------
    metrics : the table of that name: a case has a row for blood as a whole, and one for each label that is in its
        reference or in the reader's mask.

    Returns
    -------
    reader, label, n_with, n_missed, missed_max_ml (the largest reference volume missed), n_without, n_false,
    false_share with its 95 % `share_interval`, false_median_ml and false_max_ml (of the false alarms).
    """
    rows = []
    for (reader, label), part in _groups(metrics):
        cases = metrics[(metrics["reader"] == reader) & (metrics["label"] == "blood")]
        present = part["reference_ml"] > 0
        missed, false = part[present & (part["predicted_ml"] == 0)], part[~present & (part["predicted_ml"] > 0)]
        without = cases[~cases["case_id"].isin(part.loc[present, "case_id"])]
        marked = without["case_id"].isin(false["case_id"])
        row = {"reader": reader, "label": label, "n_with": int(present.sum()), "n_missed": len(missed)}
        row |= {"missed_max_ml": missed["reference_ml"].max(), "n_without": len(without), "n_false": len(false)}
        low, high = share_interval(marked, without["patient_id"])
        row |= {"false_share": marked.mean(), "false_share_ci_low": low, "false_share_ci_high": high}
        rows.append(
            row | {"false_median_ml": false["predicted_ml"].median(), "false_max_ml": false["predicted_ml"].max()}
        )
    return pd.DataFrame(rows)


def lesions_found(metrics: pd.DataFrame) -> pd.DataFrame:
    """Connected parts of the reference that each reader finds, and parts marked that are in no reference, by volume.

    Returns
    -------
    reader, volume_ml (the bin), n, n_found, found_share with its 95 % interval over patients, n_false. A part is found
    if one of its voxels is marked.
    """
    rows = []
    for reader, part in metrics[metrics["label"] == "blood"].groupby("reader", sort=False):
        for low, high in itertools.pairwise(LESION_BINS_ML):
            suffix = lesion_suffix(low, high)
            found, missed = part[f"n_detected{suffix}"], part[f"n_missed{suffix}"]
            each = pd.concat([found, missed]).astype(int)
            inside = pd.Series([1.0] * len(found) + [0.0] * len(missed)).repeat(each.to_numpy())
            owners = pd.concat([part["patient_id"], part["patient_id"]]).repeat(each.to_numpy())
            ends = share_interval(inside, owners)
            row = {"reader": reader, "volume_ml": f"{low:g}-{high:g}" if high < float("inf") else f">{low:g}"}
            row |= {"n": len(inside), "n_found": int(found.sum()), "found_share": inside.mean()}
            row |= {"found_share_ci_low": ends[0], "found_share_ci_high": ends[1]}
            rows.append(row | {"n_false": int(part[f"n_false{suffix}"].sum())})
    return pd.DataFrame(rows)


def _groups(metrics: pd.DataFrame):
    """Parts by reader and label, in the order of the table: blood before its labels."""
    order = {"blood": 0, **LABELS}
    ranked = metrics.assign(rank=metrics["label"].map(order))
    for (reader, _), part in ranked.groupby(["reader", "rank"], sort=True):
        yield (reader, part["label"].iloc[0]), part
