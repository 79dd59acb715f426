"""The folds of a cross-validation as one test set: each case with the mask of the network that had not seen it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ich import tables
from ich.cohort import EMPTY, exclusions
from ich.folders import real_path
from ich.own_cases import path_from_run

FOLD = "fold"  # column of the pooled cohort: the run that a case was tested in
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
    cohort, tested = tables.read(runs[0] / "tables" / "cohort.csv"), pd.Series(dtype=object)
    first = cohort.set_index("case_id")
    for run in runs:
        masks = run / "predictions"
        if not masks.is_dir():
            raise ValueError(
                f"run {run.name} has no predictions of its network: wanted runs that have done 03_test_set"
            )
        if run is not runs[0]:
            _check_same(first, tables.read(run / "tables" / "cohort.csv").set_index("case_id"), runs[0].name, run.name)
        splits = tables.read(run / "tables" / "splits.csv")
        mine = pd.Series(str(run), splits.loc[splits["split"] == "test", "case_id"])
        if twice := sorted(set(mine.index) & set(tested.index)):
            raise ValueError(
                f"case {twice[0]} is tested in {Path(tested[twice[0]]).name} and in {run.name}: wanted folds, which "
                "test each case once"
            )
        tested = pd.concat([tested, mine])
    _write(cohort, tested, runs[0], out)
    blank = cohort.loc[cohort["reason"] == EMPTY, "case_id"]
    marked = [(run, case) for case in blank for run in runs if (run / "predictions" / f"{case}.nii.gz").is_file()]
    seen = dict(reversed([(case, str(run)) for run, case in marked]))  # the first of each
    return _link(dict(tested) | seen, out)


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
    pooled = cohort.assign(**{FOLD: cohort["case_id"].map(tested.map(lambda each: Path(each).name))})
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


def _link(tested: dict[str, str], out: Path) -> Path:
    folder = out / "data" / "pooled"
    folder.mkdir(parents=True)
    for case, run in tested.items():
        mask = Path(run) / "predictions" / f"{case}.nii.gz"
        if mask.is_file():
            (folder / mask.name).symlink_to(real_path(mask))
    return folder
