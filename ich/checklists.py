"""Reporting checklists: which item a run answers, with what, and which only the authors can answer.

CLAIM: Mongan J, Moy L, Kahn CE. Checklist for Artificial Intelligence in Medical Imaging. Radiology: Artificial
Intelligence 2020;2(2):e200029. Items are named here in our own short words.
"""

import pandas as pd

AUTHORS = "to be stated by the authors"


def claim_data(cohort: pd.DataFrame, splits: pd.DataFrame, rule: str, seed: int) -> pd.DataFrame:
    """CLAIM items on data, reference standard, partitions and cases, as far as the cohort answers them.

    Parameters
    ----------
    cohort, splits : tables of `ich.tables`.
    rule, seed : how cases were assigned to splits.

    Returns
    -------
    item, asks, answered, answer: `answered` is false where only the authors know.
    """
    included = cohort[cohort["included"]]
    excluded = len(cohort) - len(included)
    source = ", ".join(cohort["source"].dropna().unique())
    second = int(included["second_mask"].notna().sum()) if "second_mask" in included else 0
    sites = included["site"].nunique() if "site" in included else 0
    notes = int(included["geometry_note"].notna().sum()) if "geometry_note" in included else 0
    counts = splits["split"].value_counts()
    rows = [
        (7, "sources of the data", f"{source}; {sites or 'no'} site{'' if sites == 1 else 's'} named"),
        (8, "who was eligible, where and when", None),
        (9, "what was done to the images", f"none resampled; read as acquired, {notes} with a note on their geometry"),
        (10, "how cases were chosen from the data", f"{excluded} of {len(cohort)} excluded, each with its reason"),
        (11, "what the data elements mean", "columns of cohort.csv, their units in their names"),
        (12, "how patients' identity was removed", "keyed hashes or published ids; no header text leaves the scan"),
        (13, "what was done about missing data", f"{excluded} cases left out with a reason; none filled in"),
        (14, "what the reference standard is", "volume of the manual outline, in slices along their normal"),
        (15, "why that reference standard", None),
        (16, "who drew it, and how experienced", None),
        (17, "with which tool it was drawn", None),
        (18, "how far readers agree", f"second outline of {second} cases, compared in 03 and 04" if second else None),
        (19, "intended number of cases and why", None),
        (20, "how cases were assigned to splits", f"rule {rule}, seed {seed}: "
         + ", ".join(f"{counts[name]} {name}" for name in counts.index)),
        (21, "at which level splits are apart", "patients, and pixels: no scan stands in two splits"),
        (33, "flow of cases", "figure above"),
        (34, "who is in each split", "Table 1 above"),
    ]  # fmt: skip
    return pd.DataFrame(
        [{"item": f"CLAIM {number}", "asks": asks, "answered": answer is not None, "answer": answer or AUTHORS}
         for number, asks, answer in rows]
    )  # fmt: skip
