"""The folds of a cross-validation as one test set: each case with the mask of the network that had not seen it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ich import tables
from ich.cohort import EMPTY, exclusions
from ich.folders import real_path
from ich.own_cases import path_from_run
from ich.run_folder import unlike_names

FOLD = "fold"  # column of the pooled cohort: name of the run that a case was tested in
PLACES = ("image", "reference_mask", "second_mask")
SAME = ("content", "patient_id", "hemorrhage_type", "included")  # of a case, in every run


def pool(runs: Sequence[Path], out: Path) -> Path:
    """Fill a run folder with the test cases of several runs; what is left to do is 03 and 04.

    Parameters
    ----------
    runs : finished runs on one cohort, each of which tests its network on cases that no other tests on.
    out : folder to write: tables/cohort.csv, splits.csv and exclusions.csv, and links to the masks.

    Returns
    -------
    Folder of the masks, named by case. A case that no run tests is left out with that as its reason; a scan without
    blood, which all runs may test, has the mask of the first that does.

    Raises
    ------
    FileExistsError : `out` holds something.
    ValueError, FileNotFoundError
        One run only, or one twice; a run without predictions of a network; cohorts that differ; a case that two test.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} holds files already: choose another folder")
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run given, wanted the folds of a cross-validation")
    cohort, tested = tables.read(runs[0] / "tables" / "cohort.csv"), pd.Series(dtype=object)  # case -> fold
    first, folds = cohort.set_index("case_id"), dict(zip(unlike_names(runs), runs, strict=True))
    for fold, run in folds.items():
        if not (run / "predictions").is_dir():
            raise ValueError(f"run {fold} has no predictions of its network: wanted runs that have done 03_test_set")
        if run is not runs[0]:
            _check_same(first, tables.read(run / "tables" / "cohort.csv").set_index("case_id"), next(iter(folds)), fold)
        splits = tables.read(run / "tables" / "splits.csv")
        mine = pd.Series(fold, splits.loc[splits["split"] == "test", "case_id"])
        if twice := sorted(set(mine.index) & set(tested.index)):
            raise ValueError(
                f"case {twice[0]} is tested in {tested[twice[0]]} and in {fold}: wanted folds, which test each case "
                "once"
            )
        tested = pd.concat([tested, mine])
    _write(cohort, tested, runs[0], out)
    wanted = [_mask(folds[fold], str(case)) for case, fold in tested.items()]
    for case in cohort.loc[cohort["reason"] == EMPTY, "case_id"]:
        wanted += [mask for run in runs if (mask := _mask(run, case)).is_file()][:1]
    return _link(wanted, out)


def _mask(run: Path, case: str) -> Path:
    return run / "predictions" / f"{case}.nii.gz"


def _check_same(first: pd.DataFrame, other: pd.DataFrame, first_name: str, other_name: str) -> None:
    apart = sorted(set(first.index) ^ set(other.index))
    if not apart:
        here, there = (part.loc[first.index, [*SAME]].astype(object).fillna("") for part in (first, other))
        apart = list(first.index[(here != there).any(axis=1)])
    if apart:
        raise ValueError(
            f"case {apart[0]} is not the same in {first_name} and {other_name} ({len(apart)} cases differ): wanted "
            "runs on one cohort"
        )


def _write(cohort: pd.DataFrame, tested: pd.Series, run: Path, out: Path) -> None:
    pooled = cohort.assign(**{FOLD: cohort["case_id"].map(tested)})
    for name in PLACES:
        given = pooled[name]
        pooled[name] = [path_from_run(run / path, out) if isinstance(path, str) else None for path in given]
    left = pooled["included"] & pooled[FOLD].isna()
    pooled.loc[left, "reason"] = "tested in no fold"
    pooled["included"] &= ~left
    tables.write(pooled, out / "tables" / "cohort.csv")
    tables.write(exclusions(pooled), out / "tables" / "exclusions.csv")
    held = pooled.loc[pooled["included"], ["case_id", "patient_id"]].assign(split="test")
    tables.write(held, out / "tables" / "splits.csv")


def _link(masks: Sequence[Path], out: Path) -> Path:
    folder = out / "data" / "pooled"
    folder.mkdir(parents=True)
    for mask in masks:
        if mask.is_file():  # 03 tells of a case without one
            (folder / mask.name).symlink_to(real_path(mask))
    return folder
