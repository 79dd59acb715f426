"""Which cases train, validate and test: whole patients, by stratum, site, date, fold or a given column."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from ich import tables
from ich.comparison import volume_group
from ich.tables import LABELS, SPLITS

RULES = {  # rule: how cases come to their split, in words
    "stratified": "whole patients, stratified by type and volume group (<5, 5-25, >25 ml)",
    "date": "whole patients by the date of their first scan, the earliest in train, the latest in test",
    "site": "patients of the test sites in test, the others stratified over train and validation",
    "folds": "patients of one stratified fold in test, the others stratified over train and validation",
    "given": "given by the data, whole patients",
}


def assign(
    cohort: pd.DataFrame,
    shares: dict[str, float],
    seed: int,
    *,
    rule: str = "stratified",
    test_sites: tuple[str, ...] = (),
    folds: int = 5,
    fold: int = 0,
) -> pd.DataFrame:
    """Assign the included cases to splits, whole patients at a time; follow-up scans stay with their patient.

    A column `split` in the cohort that names one stands in for the default rule.

    Parameters
    ----------
    cohort : the cohort table; rules want its columns scan_date or site.
    shares : relative size of each split, such as the paper's 905, 156 and 162.
    rule : how patients are dealt.
        "stratified": in proportion within hemorrhage type and volume group (<5, 5-25, >25 ml).
        "date": temporal validation; patients in the order of their first scan, the earliest train, the last test.
        "site": external validation; patients of `test_sites` are the test split, the others are stratified over
        train and validation.
        "folds": cross-validation; the patients of fold number `fold` of `folds` stratified ones are the test split,
        the others are stratified over train and validation.
        "given": a column `split` is there, or it is an error.

    Returns
    -------
    case_id, patient_id, split.

    Raises
    ------
    ValueError
        A patient or an image stands in two splits; shares, sites, dates or folds that cannot be used; another rule is
        asked for than the split that the data give.
    """
    cases = cohort[cohort["included"]]
    if rule not in RULES:
        raise ValueError(f"split rule {rule!r}: wanted one of {', '.join(RULES)}")
    if rule_of(cohort, rule) == "given":
        if rule not in ("stratified", "given"):
            raise ValueError(
                f"split rule {rule!r}: the data give the splits already; wanted 'given' or no column split"
            )
        if "split" not in cases or cases["split"].isna().all():
            raise ValueError("split rule 'given': the cohort has no column split")
        unassigned = cases.loc[cases["split"].isna(), "case_id"]
        if len(unassigned):
            raise ValueError(f"case {unassigned.iloc[0]}: no split is given, while other cases have one")
        return _checked(cases, cases["split"])
    if min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise ValueError(f"shares of the splits are {shares}, wanted positive numbers")
    if rule == "date":
        return _checked(cases, cases["patient_id"].map(_by_date(cases, shares)))
    if rule == "stratified":
        return _checked(cases, cases["patient_id"].map(_stratified(cases, shares, seed)))
    test = _of_sites(cases, test_sites) if rule == "site" else _of_fold(cases, folds, fold, seed)
    rest = {name: share for name, share in shares.items() if name != "test"}
    if sum(rest.values()) <= 0:
        raise ValueError(f"split rule {rule!r}: the shares of train and validation are zero")
    dealt = _stratified(cases[~cases["patient_id"].isin(test)], rest, seed)
    return _checked(cases, cases["patient_id"].map(dict.fromkeys(test, "test") | dealt))


def rule_of(cohort: pd.DataFrame, rule: str) -> str:
    """The rule that `assign` follows: "given" where the data name a split, else the one asked for."""
    given = "split" in cohort and cohort.loc[cohort["included"], "split"].notna().any()
    return "given" if given else rule


def _checked(cases: pd.DataFrame, split: pd.Series) -> pd.DataFrame:
    table = cases[["case_id", "patient_id"]].assign(split=split).reset_index(drop=True)
    check_splits(table, cases)
    return table


def _stratified(cases: pd.DataFrame, shares: dict[str, float], seed: int) -> dict[str, str]:
    """Patient -> split. Patients are sorted by stratum, shuffled within it, and dealt in turn to the split that is
    furthest behind its share; every stratum is thereby spread over the splits in proportion."""
    keyed = cases.assign(
        group=volume_group(cases["reference_volume_ml"]).astype(str), kind=cases["hemorrhage_type"].fillna("")
    )
    # A patient counts where its largest hematoma does.
    largest = keyed.sort_values("reference_volume_ml", ascending=False).drop_duplicates("patient_id")
    order = np.random.default_rng(seed).permutation(len(largest))
    patients = largest.sort_values("patient_id").iloc[order].sort_values(["kind", "group"], kind="stable")
    return _deal(list(patients["patient_id"]), keyed.groupby("patient_id").size(), shares)


def _deal(patients: list[str], sizes: pd.Series, shares: dict[str, float]) -> dict[str, str]:
    total = sum(shares.values())
    given = dict.fromkeys(shares, 0)
    assigned: dict[str, str] = {}
    for patient in patients:
        dealt = sum(given.values()) + sizes[patient]
        behind = {name: shares[name] / total * dealt - given[name] for name in shares}
        name = max(behind, key=lambda key: behind[key])
        given[name] += sizes[patient]
        assigned[patient] = name
    return assigned


def _by_date(cases: pd.DataFrame, shares: dict[str, float]) -> dict[str, str]:
    if "scan_date" not in cases or cases["scan_date"].isna().any():
        lacking = cases["case_id"] if "scan_date" not in cases else cases.loc[cases["scan_date"].isna(), "case_id"]
        raise ValueError(f"split rule 'date': case {lacking.iloc[0]} has no scan_date ({len(lacking)} cases lack one)")
    dates = pd.to_datetime(cases["scan_date"], format="ISO8601", errors="coerce")  # 03.04.2020 has two readings
    if dates.isna().any():
        case, text = cases.loc[dates.isna(), ["case_id", "scan_date"]].iloc[0]
        raise ValueError(f"split rule 'date': case {case}: scan_date is {text!r}, wanted YYYY-MM-DD")
    first = dates.groupby(cases["patient_id"]).min().sort_values(kind="stable")
    done = cases.groupby("patient_id").size().reindex(first.index).cumsum() / len(cases)
    ends = np.cumsum([shares.get(name, 0) for name in SPLITS]) / sum(shares.values())
    # A patient goes where the middle of its scans lies, so that sizes are right to half a patient.
    middle = (done + done.shift(fill_value=0)) / 2
    names = np.array(SPLITS)[np.searchsorted(ends, middle, side="left").clip(max=len(SPLITS) - 1)]
    return dict(zip(first.index, names, strict=True))


def _of_sites(cases: pd.DataFrame, test_sites: tuple[str, ...]) -> list[str]:
    if "site" not in cases or cases["site"].isna().any():
        raise ValueError("split rule 'site': every case needs a site")
    known = sorted(cases["site"].astype(str).unique())
    unknown = [site for site in test_sites if site not in known]
    if unknown or not test_sites or set(known) <= set(test_sites):
        raise ValueError(f"test sites {', '.join(test_sites) or 'none'}: wanted some, not all, of {', '.join(known)}")
    inside = cases["site"].astype(str).isin(test_sites)
    return sorted(cases.loc[inside, "patient_id"].unique())


def _of_fold(cases: pd.DataFrame, folds: int, fold: int, seed: int) -> list[str]:
    patients = cases["patient_id"].nunique()
    if not 2 <= folds <= patients or not 0 <= fold < folds:
        raise ValueError(f"fold {fold} of {folds}: wanted 2 to {patients} folds, numbered from 0")
    dealt = _stratified(cases, {str(number): 1.0 for number in range(folds)}, seed)
    return sorted(patient for patient, number in dealt.items() if number == str(fold))


def check_splits(splits: pd.DataFrame, cohort: pd.DataFrame | None = None) -> None:
    """Raise ValueError naming the first patient, or the first image (column `content` of the cohort), in two splits."""
    _check_one(splits, "patient_id", "patient {}")
    if cohort is not None and "content" in cohort:
        contents = splits.merge(cohort[["case_id", "content"]].dropna(), on="case_id")
        _check_one(contents, "content", "one image (content {:.12})")


def _check_one(splits: pd.DataFrame, column: str, what: str) -> None:
    counts = splits.groupby(column)["split"].nunique()
    if (counts > 1).any():
        value = counts.index[counts > 1][0]
        rows = splits[splits[column] == value]
        where = ", ".join(f"{row.case_id} in {row.split}" for row in rows.itertuples())
        raise ValueError(f"{what.format(value)} stands in more than one split: {where}")


def _excluded(cohort: pd.DataFrame) -> str:
    """How many cases were excluded and why most of them were, for an error that this may explain."""
    reasons = cohort.loc[~cohort["included"], "reason"].dropna()
    if reasons.empty:
        return ""
    return f"; {len(reasons)} cases were excluded, {(reasons == reasons.mode()[0]).sum()} as {reasons.mode()[0]!r}"


def fingerprint(cases: pd.DataFrame) -> str:
    """SHA-256 of what makes rows of the cohort table the same cases: their pixels and blood, read once by 01.

    Pixels as the network sees them would not do: they are resampled, and another processor may round one elsewhere.
    """
    told = cases[["case_id", "hemorrhage_type", "content", *(f"reference_{label}_ml" for label in LABELS)]]
    return hashlib.sha256(told.to_csv(index=False, float_format="%.6g").encode()).hexdigest()


def open_split(run_dir: Path, name: str) -> pd.DataFrame:
    """The included cases of one split with their cohort columns, checked once more for shared patients and images.

    Raises
    ------
    ValueError
        A patient or an image stands in two splits, or the split has no case.
    """
    cohort = tables.read(run_dir / "tables" / "cohort.csv")
    splits = tables.read(run_dir / "tables" / "splits.csv")
    check_splits(splits, cohort)
    wanted = splits.loc[splits["split"] == name, ["case_id", "split"]]
    if wanted.empty:
        raise ValueError(f"split {name!r} has no case: {splits['split'].value_counts().to_dict()}{_excluded(cohort)}")
    return cohort.drop(columns="split", errors="ignore").merge(wanted, on="case_id", validate="one_to_one")
