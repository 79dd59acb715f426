"""Folds of a cross-validation as one test set: what comes together, what is refused, and the report."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from ich import cli, cohort, own_cases, splits, tables
from ich.detection import without_blood
from ich.measure import masks_in
from ich.pool import pool

CASES = [f"c{number}" for number in range(7)]  # the last one without blood


def write_mask(path, edge):
    mask = np.zeros((24, 24, 6), np.uint8)
    mask[4 : 4 + edge, 4:14, 1:5] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(mask, np.diag([-1.0, -1, 5, 1])).to_filename(path)


def fold(folder, masks, tested, simulated=False):
    """A run that has done 03: it has marked 10 voxels less of the edge than the reference in its test cases."""
    (folder / "tables").mkdir(parents=True)
    cases = cohort.build(own_cases.from_folders(masks, None, folder), folder, need_image=False, jobs=1)
    tables.write(cases.assign(simulated=simulated, site="a"), folder / "tables" / "cohort.csv")
    kept = cases.loc[cases["included"], ["case_id", "patient_id"]]
    held = kept.assign(split=["test" if case in tested else "train" for case in kept["case_id"]])
    tables.write(held, folder / "tables" / "splits.csv")
    for case in [*tested, CASES[-1]]:
        write_mask(folder / "predictions" / f"{case}.nii.gz", 0 if case == CASES[-1] else int(case[1]) + 2)
    return folder


@pytest.fixture
def masks(tmp_path):
    for number, case in enumerate(CASES):
        write_mask(tmp_path / "masks" / f"{case}.nii.gz", 0 if case == CASES[-1] else number + 3)
    return tmp_path / "masks"


def test_each_case_has_the_mask_of_the_run_that_tested_it(masks, tmp_path):
    first, second = fold(tmp_path / "a", masks, CASES[:3]), fold(tmp_path / "b", masks, CASES[3:5], simulated=True)
    out = tmp_path / "pooled"
    found = masks_in(pool([first, second], out))
    assert {case: path.resolve().parents[1].name for case, path in found.items()} == {
        "c0": "a", "c1": "a", "c2": "a", "c3": "b", "c4": "b", "c6": "a",
    }  # fmt: skip
    test = splits.open_split(out, "test").set_index("case_id")
    assert test["fold"].to_dict() == {"c0": "a", "c1": "a", "c2": "a", "c3": "b", "c4": "b"}
    assert all((out / path).resolve() == masks / f"{case}.nii.gz" for case, path in test["reference_mask"].items())
    left = tables.read(out / "tables" / "exclusions.csv").set_index("case_id")["reason"]
    assert left.to_dict() == {"c5": "tested in no fold", "c6": cohort.EMPTY}
    assert list(without_blood(out)["case_id"]) == ["c6"]


def test_what_is_no_cross_validation_is_refused(masks, tmp_path):
    first, second = fold(tmp_path / "a", masks, CASES[:3]), fold(tmp_path / "b", masks, CASES[2:5])
    with pytest.raises(ValueError, match="1 run given"):
        pool([first], tmp_path / "out")
    with pytest.raises(ValueError, match="case c2 is tested in a and in b: wanted folds"):
        pool([first, second], tmp_path / "out")
    write_mask(masks / "c4.nii.gz", 9)
    third = fold(tmp_path / "c", masks, CASES[3:5])
    with pytest.raises(ValueError, match=r"case c4 is not the same in a and c \(1 cases differ\)"):
        pool([first, third], tmp_path / "out")
    (second / "predictions").rename(second / "elsewhere")
    with pytest.raises(ValueError, match="run b has no predictions of its network"):
        pool([first, second], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileExistsError, match="holds files already"):
        pool([first, third], masks)


def test_folds_of_one_name_are_told_apart(masks, tmp_path):
    first, second = fold(tmp_path / "a" / "run", masks, CASES[:3]), fold(tmp_path / "b" / "run", masks, CASES[3:6])
    pool([first, second], tmp_path / "out")
    found = splits.open_split(tmp_path / "out", "test").groupby("fold")["case_id"].agg(list)
    assert found.to_dict() == {"run (1)": CASES[:3], "run (2)": CASES[3:6]}


def test_a_wrong_parameter_leaves_no_folder(masks, tmp_path, capsys):
    runs = [fold(tmp_path / "a", masks, CASES[:3]), fold(tmp_path / "b", masks, CASES[3:6])]
    assert cli.main(["pool", *map(str, runs), "--out", str(tmp_path / "out"), "--set", "moon=1"]) == 2
    assert "moon" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_makes_one_report_of_all_folds(masks, tmp_path):
    """Runs 03 and 04, which takes most of a minute: only so is it known that they need no more than the pool has."""
    runs = [fold(tmp_path / name, masks, CASES[at : at + 2], True) for name, at in (("a", 0), ("b", 2), ("c", 4))]
    assert cli.main(["pool", *map(str, runs), "--out", str(tmp_path / "all"), "--set", "n_resamples=50"]) == 0
    found = pd.read_csv(tmp_path / "all" / "tables" / "dice_by_stratum.csv").set_index("stratum")
    dice = [2 * (edge - 1) / (2 * edge - 1) for edge in range(3, 9)]  # one row of the edge is missing in each
    assert found.loc["all", ["n", "mean"]].tolist() == pytest.approx([6, np.mean(dice)])
    assert found.loc["fold: b", ["n", "mean"]].tolist() == pytest.approx([2, np.mean(dice[2:4])])
    page = (tmp_path / "all" / "html" / "index.html").read_text()
    assert "a, b, c have trained a network each" in page
    assert "(simulated)" in page
