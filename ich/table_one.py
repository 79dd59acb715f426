"""Table 1 of a study: who and what is in each split, and how large the bleeds of each type are."""

import warnings

import pandas as pd

from ich.tables import HEMORRHAGE_TYPES, SPLITS

FEWEST = 5  # a group of fewer people could be recognized
SHOWN = {
    "age": "Age (years)",
    "sex": "Sex",
    "hemorrhage_type": "Hemorrhage type",
    "reference_volume_ml": "Reference volume (ml)",
    "n_slices": "Slices",
    "slice_spacing_mm": "Slice spacing (mm)",
    "spacing_i_mm": "Pixel spacing (mm)",
    "tilt": "Gantry tilt of over 1°",
    "site": "Site",
}
CATEGORIES = ("sex", "hemorrhage_type", "tilt", "site")


def volumes(cohort: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Cases, patients and volume (mean ± SD, median, range) by type and split, with totals."""
    cases = cohort[cohort["included"]].drop(columns="split", errors="ignore").merge(
        splits[["case_id", "split"]], on="case_id", how="left"
    )  # fmt: skip
    cases["hemorrhage_type"] = cases["hemorrhage_type"].fillna("not stated")
    rows = []
    kinds = [kind for kind in (*HEMORRHAGE_TYPES, "not stated") if (cases["hemorrhage_type"] == kind).any()]
    for kind in (*kinds, "all"):
        of_kind = cases if kind == "all" else cases[cases["hemorrhage_type"] == kind]
        for part in (*[name for name in SPLITS if (cases["split"] == name).any()], "all"):
            chosen = of_kind if part == "all" else of_kind[of_kind["split"] == part]
            volume = chosen["reference_volume_ml"]
            rows.append(
                {
                    "hemorrhage_type": kind,
                    "split": part,
                    "cases": len(chosen),
                    "patients": chosen["patient_id"].nunique(),
                    "mean_ml": volume.mean(),
                    "sd_ml": volume.std(),
                    "median_ml": volume.median(),
                    "min_ml": volume.min(),
                    "max_ml": volume.max(),
                }
            )
    return pd.DataFrame(rows)


def characteristics(
    cohort: pd.DataFrame, splits: pd.DataFrame, people: pd.DataFrame | None = None, by: str = "split"
) -> pd.DataFrame:
    """Table 1 in the usual form, by the tableone package: median [Q1, Q3] or n (%) by group, with missing values.

    Parameters
    ----------
    cohort, splits : tables of `ich.tables`; included cases count.
    people : case_id, age (years), sex of `ich.intake.take_in`, else what the cohort has of them; each person counts
        once in a column, not each scan. A row that would tell of fewer than five people of a group is left out.
    by : "split" or "hemorrhage_type".

    Returns
    -------
    characteristic, level, missing, all, and a column for each group, as text.
    """
    cases = cohort[cohort["included"]].drop(columns="split", errors="ignore").merge(
        splits[["case_id", "split"]], on="case_id"
    )  # fmt: skip
    cases["hemorrhage_type"] = cases["hemorrhage_type"].fillna("not stated")
    cases["tilt"] = (cases["tilt_deg"].abs() > 1).map({True: "yes", False: "no"}).where(cases["tilt_deg"].notna())
    groups = [name for name in (SPLITS if by == "split" else (*HEMORRHAGE_TYPES, "not stated"))
              if (cases[by] == name).any()]  # fmt: skip
    if people is None and {"age", "sex"} & set(cases):
        people = cases.reindex(columns=["case_id", "age", "sex"])
    cases = cases.drop(columns=["age", "sex"], errors="ignore")  # which persons have, and not scans
    chosen = [name for name in SHOWN if name in cases and name != by and cases[name].notna().any()]
    of_cases = _table(cases, chosen, by, groups)
    if people is None and cases["patient_id"].nunique() == len(cases):
        return of_cases
    persons = cases[["case_id", "patient_id", by]]
    if people is not None:
        persons = persons.merge(people[["case_id", "age", "sex"]], on="case_id", how="left")
        persons["age"] = pd.to_numeric(persons["age"], errors="coerce")
        persons["sex"] = persons["sex"].astype("str").str.upper().str[:1].where(lambda sex: sex.isin(["F", "M"]))
    # A person counts once in a column, however many scans there are, with the first age and sex stated.
    persons = persons.groupby([by, "patient_id"], sort=False).first().reset_index()
    told = [name for name in ("age", "sex") if name in persons and persons[name].notna().any()]
    of_persons = _table(persons, [name for name in told if _enough(persons, name, by)], by, groups)
    of_persons["characteristic"] = of_persons["characteristic"].replace({"n": "Patients, n"})
    return pd.concat([of_cases.iloc[:1], of_persons, of_cases.iloc[1:]], ignore_index=True)


def _table(rows: pd.DataFrame, chosen: list[str], by: str, groups: list[str]) -> pd.DataFrame:
    """tableone's table of these columns as text; without columns the number of rows alone."""
    from tableone import TableOne  # a second to import

    if not chosen:
        counts = {name: str(int((rows[by] == name).sum())) for name in groups}
        return pd.DataFrame([{"characteristic": "n", "level": "", "missing": "", "all": str(len(rows)), **counts}])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tableone 0.9 sets rows in a way that pandas will drop
        made = TableOne(
            rows,
            columns=chosen,
            categorical=[name for name in chosen if name in CATEGORIES],
            nonnormal=[name for name in chosen if name not in CATEGORIES],
            groupby=by,
            order={by: groups, "hemorrhage_type": [*HEMORRHAGE_TYPES, "not stated"]} if by == "split" else {by: groups},
            rename={name: SHOWN[name] for name in chosen},
            decimals=1,
            include_null=False,  # counted as missing, not as a level
        ).tableone
    made = made.reset_index()
    made.columns = ["characteristic", "level", "missing", "all", *made.columns.get_level_values(1)[4:]]
    return made[["characteristic", "level", "missing", "all", *groups]].astype("str")


def _enough(cases: pd.DataFrame, name: str, by: str) -> bool:
    """Whether every count that the table would tell of people stands for at least `FEWEST` of them."""
    known = cases[cases[name].notna()]
    keys = [by] if name == "age" else [by, name]
    counts = known.groupby(keys, observed=True)["patient_id"].nunique()
    whole = 1 if name == "age" else known[name].nunique()
    return counts.min() >= FEWEST and len(counts) == cases[by].nunique() * whole
