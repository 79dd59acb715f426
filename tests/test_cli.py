"""The command line: what it says, and its exit code. Each command's numbers are tested with its module."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ich.cli import main
from ich.sources import KINDS

NOTEBOOKS = Path(__file__).parent / "notebooks"


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    (tmp_path / "notebooks" / "profiles").mkdir()
    for name, notebooks in {"small": "writes_a_table", "bad": "fails_when_told", "slow": "sleeps"}.items():
        text = f"title: The {name} one\nnotebooks: [counts_its_runs, {notebooks}]\n"
        (tmp_path / "notebooks" / "profiles" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(*arguments):
    return main(["study", "--notebooks", "notebooks", "--reports", "reports", *arguments])


@pytest.fixture
def masks(tmp_path):
    """Two folders: a bar of 8 voxels of 1 x 1 x 5 mm (0.04 ml), and a prediction of half of it."""
    for folder, stop in {"reference": 8, "prediction": 4}.items():
        (tmp_path / folder).mkdir()
        labels = np.zeros((16, 16, 3), np.uint8)
        labels[:stop, 4, 1] = 1
        nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / folder / "007.nii.gz")
    return tmp_path


def test_help_is_there_at_once():
    """Torch alone takes seconds; help must not load it."""
    code = (
        "import sys; import ich.cli; ich.cli.parser().format_help(); "
        "print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_study_says_where_its_report_is(project, capsys):
    assert study("small", "--set", "rows=2", "--name", "mine") == 0
    said = capsys.readouterr().out
    assert "[1/2] counts_its_runs starts" in said
    assert "[2/2] writes_a_table done, 3 cells" in said
    assert f"Report: {project / 'reports' / 'mine' / 'html' / 'index.html'}" in said
    assert main(["list", "--notebooks", "notebooks", "--reports", "reports"]) == 0
    listed = capsys.readouterr().out
    assert "The small one: counts_its_runs, writes_a_table" in listed
    assert "mine: The small one, finished" in listed


def test_a_failed_study_exits_1_and_says_how_to_go_on(project, capsys):
    assert study("bad", "--overwrite", "--set", "label=a b") == 1
    said = capsys.readouterr().err
    assert "fails_when_told failed in cell 3 of 3 (raise): ValueError: case 017" in said
    assert "ich study bad --set 'label=a b' --reports reports --notebooks notebooks --resume" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small", "--set", "rowz=1"], "ich study: no parameter is called 'rowz'; nearest: rows"),
        (["smal"], "ich study: no profile is called 'smal'; nearest: small. All: bad, slow, small"),
        (["gone.yaml"], "ich study: profile gone.yaml does not exist"),
    ],
)
def test_a_wrong_study_is_one_line_and_exit_2(project, capsys, arguments, said):
    assert study(*arguments) == 2
    found = capsys.readouterr().err
    assert found.startswith(said)
    assert found.count("\n") == 1


def test_debug_shows_the_traceback(project, monkeypatch):
    monkeypatch.setenv("ICH_DEBUG", "1")
    with pytest.raises(ValueError, match="rowz"):
        study("small", "--set", "rowz=1")


def test_an_interrupted_study_exits_130_leaves_no_kernel_and_can_be_resumed(project):
    command = [
        sys.executable,
        "-m",
        "ich.cli",
        "study",
        "slow",
        "--notebooks",
        "notebooks",
        "--reports",
        "reports",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[2/2] sleeps starts"):
                break
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)  # a busy machine is slow to end a kernel
    assert process.returncode == 130
    assert said.strip().startswith("study interrupted; continue with: ich study slow")
    assert "Traceback" not in said
    assert study("slow", "--resume", "--set", "seconds=0") == 0
    assert len(pd.read_csv(project / "reports" / "slow" / "tables" / "runs.csv")) == 1


def test_measure_writes_a_row_a_mask_and_names_what_it_could_not_read(masks, capsys):
    (masks / "reference" / "broken.nii.gz").write_bytes(b"no NIfTI")
    out = masks / "out" / "table.csv"
    files = sorted(str(path) for path in (masks / "reference").iterdir())
    assert main(["measure", *files, "--out", str(out), "--jobs", "1"]) == 1
    assert "broken: " in capsys.readouterr().err
    table = pd.read_csv(out, dtype={"case_id": "str"})
    assert list(table["case_id"]) == ["007"]
    assert table["volume_ml"].item() == pytest.approx(0.04)


def test_agree_names_the_one_bad_cell(tmp_path, capsys):
    rows = [f"c{n},{n}.5,{'abc' if n == 5 else n}" for n in range(8)]
    (tmp_path / "table.csv").write_text("\n".join(["case_id,a,b", *rows]))
    table, out = str(tmp_path / "table.csv"), str(tmp_path / "x.json")
    assert main(["agree", table, "--reference", "a", "--method", "b", "--out", out]) == 2
    assert "b: case c5 is the text 'abc', wanted numbers" in capsys.readouterr().err


def test_agree_refuses_a_negative_volume(tmp_path, capsys):
    rows = [f"c{n},{n}.5,{-n if n == 5 else n}" for n in range(8)]
    (tmp_path / "table.csv").write_text("\n".join(["case_id,a,b", *rows]))
    table, out = str(tmp_path / "table.csv"), tmp_path / "x.json"
    assert main(["agree", table, "--reference", "a", "--method", "b", "--out", str(out)]) == 2
    assert "b: row 7 of the table is -5, wanted volumes of 0 or more" in capsys.readouterr().err
    assert not out.exists()


def test_agree_writes_json(tmp_path, capsys):
    table = pd.DataFrame({"case_id": ["001", "002", "003", "004"], "a": [1.0, 5, 9, 30], "b": [2.0, 5, 11, 33]})
    table.to_csv(tmp_path / "table.csv", index=False)
    arguments = [
        "agree",
        str(tmp_path / "table.csv"),
        "--reference",
        "a",
        "--out",
        str(tmp_path / "r" / "x.json"),
    ]
    assert main([*arguments, "--method", "b"]) == 0
    result = json.loads((tmp_path / "r" / "x.json").read_text())
    assert (result["n"], result["bias"]) == (4, 1.5)
    assert main([*arguments, "--method", "c"]) == 2
    said = capsys.readouterr()
    assert "n 4, each row taken for a patient (--patient names them); bias 1.50 ml, limits of agreement" in said.out
    assert said.err.startswith("ich agree: ")


def test_agree_takes_several_methods_and_drops_none(tmp_path, capsys):
    """The result of each is that of a call of its own."""
    table = pd.DataFrame({"a": [1.0, 5, 9, 30], "b": [2.0, 5, 11, 33], "c": [0.0, 4, 8, 29]})
    table.to_csv(tmp_path / "table.csv", index=False)
    call = ["agree", str(tmp_path / "table.csv"), "--reference", "a", "--out", str(tmp_path / "x.json")]
    alone = {}
    for method in ("b", "c"):
        assert main([*call, "--method", method]) == 0
        alone[method] = json.loads((tmp_path / "x.json").read_text())
    assert (alone["b"]["bias"], alone["c"]["bias"]) == (1.5, -1)
    capsys.readouterr()
    assert main([*call, "--method", "b", "--method", "c", "--method", "b"]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == alone
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ml")[0] for line in lines] == [
        f"{method}: n 4, each row taken for a patient (--patient names them); bias {bias}"
        for method, bias in (("b", "1.50"), ("c", "-1.00"))
    ]
    table.assign(b=[2.0, 5, -11, 33]).to_csv(tmp_path / "table.csv", index=False)
    assert main([*call, "--method", "b", "--method", "c"]) == 2
    assert "b: row 4 of the table is -11, wanted volumes of 0 or more" in capsys.readouterr().err


def test_agree_takes_patients_and_margins(tmp_path, capsys):
    table = pd.DataFrame({"PatientID": ["p", "p", "q", "r"], "a": [1.0, 5, 9, 30], "b": [2.0, 5, 11, 33]})
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "x.json"
    call = ["agree", str(tmp_path / "table.csv"), "--reference", "a", "--method", "b", "--out", str(out)]
    assert main([*call, "--patient", "PatientID", "--margin-ml", "2", "--margin-percent", "30"]) == 0
    found = json.loads(out.read_text())
    assert (found["n_patients"], found["margin_ml"], found["margin_percent"]) == (3, 2, 30)
    assert found["within_margin_ml"] == 0.75
    assert "n 4 of 3 patients; bias 1.50 ml" in capsys.readouterr().out
    assert main([*call, "--patient", "patient"]) == 2
    assert "--patient patient: no such column; found PatientID, a, b" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["agree", "gone.csv", "--reference", "a", "--method", "b", "--out", "x.json"],
        ["evaluate", "--reference", "gone", "--prediction", "gone", "--out", "x"],
        ["cohort", "unheard-of", ".", "--out", "x"],
        ["cohort", "dicom", "."],
        ["phantom", "--n", "0", "--out", "x"],
        ["segment", "gone.nii.gz", "--out", "x", "--weights", "gone"],
    ],
)
def test_wrong_input_is_one_line_exit_2_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ich {arguments[0]}: ")
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_phantom_writes_cases_that_do_not_depend_on_their_number(tmp_path):
    for n in (1, 2):
        arguments = ["phantom", "--n", str(n), "--seed", "5", "--size", "64", "--jobs", "1", "--out"]
        assert main([*arguments, str(tmp_path / str(n))]) == 0
    one, two = (pd.read_csv(tmp_path / str(n) / "cases.csv", dtype="str") for n in (1, 2))
    assert len(two) == 2
    pd.testing.assert_frame_equal(one, two.head(1))


def test_a_cohort_that_cannot_be_read_leaves_nothing_that_names_patients(tmp_path, capsys):
    (tmp_path / "Mueller_Hans").mkdir()
    (tmp_path / "Mueller_Hans" / "letter.txt").write_text("no scan")
    out = tmp_path / "out"
    assert main(["cohort", "dicom", str(tmp_path / "Mueller_Hans"), "--out", str(out)]) == 2
    assert "no DICOM images among 1 files" in capsys.readouterr().err
    assert not out.exists()


def test_cohort_alone_lists_every_layout(capsys):
    assert main(["cohort"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}: " in said for name in KINDS)
    assert "PhysioNet Restricted Health Data License" in said


def test_a_study_says_how_to_go_on_after_the_notebook_that_it_stops_after(project, capsys):
    assert study("small", "--title", "Ours", "--until", "counts_its_runs") == 0
    said = capsys.readouterr().out
    assert "counts_its_runs.html" in said
    assert "continue with: ich study small --title Ours" in said
    assert study("small", "--until", "03_nothing") == 2
    assert "--until 03_nothing: wanted one of counts_its_runs, writes_a_table" in capsys.readouterr().err


def test_masks_that_share_no_name_are_told_before_anything_runs(masks, capsys):
    (masks / "prediction" / "007.nii.gz").rename(masks / "prediction" / "seven.nii.gz")
    folders = [f"--{name}={masks / name}" for name in ("reference", "prediction")]
    assert main(["evaluate", *folders, "--out", str(masks / "out")]) == 2
    assert "1 references (007, ...), 1 predictions (seven, ...)" in capsys.readouterr().err
    assert not (masks / "out").exists()


def test_a_table_that_is_not_there_is_named(tmp_path, capsys):
    arguments = ["--reference", "a", "--method", "b", "--out", str(tmp_path / "out.json")]
    assert main(["agree", str(tmp_path / "none.csv"), *arguments]) == 2
    assert "none.csv: no such file or folder" in capsys.readouterr().err


def test_an_input_is_never_the_output(tmp_path, capsys):
    table, mask = tmp_path / "t.csv", tmp_path / "m.nii.gz"
    table.write_text("case_id,a,b\n1,2,3\n")
    mask.write_bytes(b"voxels")
    named = ["--reference", "a", "--method", "b"]
    assert main(["agree", str(table), *named, "--out", str(table)]) == 2
    assert "is an input and would be overwritten" in capsys.readouterr().err
    assert main(["measure", str(mask), "--out", str(tmp_path / "." / "m.nii.gz")]) == 2
    assert "is an input and would be overwritten" in capsys.readouterr().err
    assert main(["measure", str(mask), "--out", str(tmp_path / "t.xlsx")]) == 2
    assert "wanted a file that ends in .csv" in capsys.readouterr().err
    assert table.read_text() == "case_id,a,b\n1,2,3\n"
    assert mask.read_bytes() == b"voxels"


def test_runs_are_named_by_path_or_name_and_outputs_by_their_ending(tmp_path, capsys):
    demo = Path(__file__).resolve().parents[1] / "reports" / "demo"
    for call, said in (
        (["archive", str(demo), "--out", str(tmp_path / "keep.csv")], "wanted a file that ends in .zip"),
        (["archive", "demo", "--out", str(tmp_path / "a.zip"), "--license", "mine"], "wanted the address of a license"),
        (["train", str(demo)], "demo holds results of the network that it has"),
        (["segment", "x.nii", "--out", str(tmp_path), "--earlier-series", "2"], "goes with --earlier"),
    ):
        assert main(call) == 2
        assert said in capsys.readouterr().err, call
    with pytest.raises(SystemExit):
        main(["measure", "x.nii", "--out", "x.csv", "--jobs", "0"])
    assert "0: wanted -1 for one per core, or 1 or more" in capsys.readouterr().err


def test_a_table_stays_where_no_mask_could_be_measured(tmp_path, capsys):
    (tmp_path / "results.csv").write_text("precious")
    assert main(["measure", str(tmp_path / "typo.nii.gz"), "--out", str(tmp_path / "results.csv"), "--jobs", "1"]) == 1
    assert (tmp_path / "results.csv").read_text() == "precious"
