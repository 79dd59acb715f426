"""The committed notebooks run, their check cells print what is committed, and the demo reaches its aims."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ich import tables
from ich.notebook import declared
from ich.verify import verify_run

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
CHECK = "nbval-check-output"


def nbval(folder: Path, *paths: Path, timeout: int = 1200, **environment: str) -> subprocess.CompletedProcess:
    """Re-run notebooks and compare the outputs of their check cells."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={timeout}", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", folder / "pytest.ini", *options, *paths],
        cwd=folder,
        env={**os.environ, "CI": "true", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def workbook(folder: Path) -> Path:
    """A copy of the notebooks beside the test data they read; their default run folder then lies in the copy."""
    (folder / "notebooks").mkdir(parents=True)
    for path in NOTEBOOKS:
        shutil.copy(path, folder / "notebooks")
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """Run folder of the demo study, made by nbval from the committed notebooks: some minutes, most of them training."""
    folder = workbook(tmp_path_factory.mktemp("workbook"))
    result = nbval(folder, *sorted((folder / "notebooks").glob("*.ipynb")))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    return folder / "reports" / "demo"


@pytest.mark.slow
def test_committed_notebooks_run_and_their_check_cells_hold(demo):
    """Minutes: the demo network is trained on the way."""
    assert (demo / "tables" / "answer.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "wanted"), [("parenchymal", 0.85), ("ventricular", 0.70)])
def test_demo_network_reaches_its_aims(demo, kind, wanted):
    """Uses the demo run; the aims are those of the project, on simulated scans."""
    found = pd.read_csv(demo / "tables" / "dice_by_type.csv").query("reader == 'network'").set_index("hemorrhage_type")
    assert found.loc[kind, "mean"] >= wanted


@pytest.mark.slow
def test_every_table_of_the_demo_has_its_schema(demo):
    """Uses the demo run."""
    for name in set(tables.SCHEMAS) - {"readers"}:  # no reader took part
        tables.read(demo / "tables" / f"{name}.csv")


@pytest.mark.slow
def test_test_patients_were_never_trained_on(demo):
    """Uses the demo run."""
    splits = tables.read(demo / "tables" / "splits.csv")
    measured = tables.read(demo / "tables" / "measurements.csv")
    assert set(measured["case_id"]) == set(splits.query("split == 'test'")["case_id"])
    elsewhere = set(splits.query("split != 'test'")["patient_id"])
    assert not elsewhere & set(measured["patient_id"])


@pytest.mark.slow
def test_a_real_head_is_segmented_with_the_demo_network(demo, shared_data, tmp_path):
    """Uses the demo run's weights on a GE scan without bleeding: the mask lies on the scan's own grid."""
    from ich.case_files import segment
    from ich.scan import read_mask, read_scan

    result = segment(shared_data / "dicom" / "ge_head", tmp_path, demo / "model")
    labels, grid = read_mask(tmp_path / "mask.nii.gz")
    scan = read_scan(shared_data / "dicom" / "ge_head")
    assert labels.shape == scan.hu.shape == (512, 512, 28)
    assert grid.positions_mm == pytest.approx(scan.grid.positions_mm)
    assert result["volume_ml"] == pytest.approx(grid.volume_ml(labels > 0), abs=1e-6)
    assert abs(result["tilt_deg"]) == pytest.approx(18.5, abs=0.05)
    assert any("simulated" in text for text in result["warnings"])
    page = (tmp_path / "case.html").read_text()
    assert "Research use only" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_says_what_it_means(path):
    """For `ich help`; the comment has to stand on the line of the name, where a formatter may not leave it."""
    assert [name for name, parameter in declared(path).items() if not parameter.meaning] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_keep_outputs_of_check_cells_alone(path):
    notebook = nbformat.read(path, 4)
    checks = 0
    for cell in notebook.cells:
        if cell.cell_type == "code" and CHECK in cell.metadata.get("tags", []):
            checks += 1
            assert cell.outputs, f"{cell.id} has no output to compare with"
            assert cell.execution_count == 1, f"{cell.id} would count as never run"
            assert all(output.output_type == "stream" for output in cell.outputs)
        elif cell.cell_type == "code":
            assert not cell.outputs, f"{cell.id} keeps outputs"
    assert checks
    assert "parameters" in next(cell for cell in notebook.cells if cell.cell_type == "code").metadata["tags"]
    assert len(notebook.cells) <= 40
    assert not any(line.startswith(("def ", "class ")) for cell in notebook.cells for line in cell.source.splitlines())


@pytest.fixture
def check_notebook(tmp_path) -> Path:
    """The imports and the check cell of 04 alone."""
    folder = workbook(tmp_path / "book")
    source = nbformat.read(folder / "notebooks" / "04_agreement.ipynb", 4)
    kept = [cell for cell in source.cells if cell.id == "check"]
    imports = nbformat.v4.new_code_cell(
        "import numpy as np\nimport pandas as pd\n\nfrom ich import agreement\nfrom ich.abc2 import abc2"
    )
    source.cells = [imports, *kept]
    path = folder / "notebooks" / "check.ipynb"
    nbformat.write(source, path)
    return path


@pytest.mark.parametrize(
    ("module", "before", "after"),
    [
        ("abc2", None, None),
        ("abc2", "self.b_mm * self.c_mm / 2000", "self.b_mm * self.c_mm / 1980"),
        ("bland_altman", "multiplier: float = 1.96", "multiplier: float = 2.0"),
    ],
    ids=["unchanged", "ABC/2 by 1 %", "1.96 to 2"],
)
def test_check_cells_notice_a_changed_formula(check_notebook, tmp_path, module, before, after):
    changed = tmp_path / "changed"
    shutil.copytree(ROOT / "ich", changed / "ich", ignore=shutil.ignore_patterns("__pycache__"))
    path = changed / "ich" / f"{module}.py"
    if before is not None:
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
    result = nbval(check_notebook.parents[1], check_notebook, PYTHONPATH=str(changed))
    assert (result.returncode == 0) == (before is None), result.stdout[-3000:]


@pytest.mark.slow
def test_real_masks_alone_get_their_report(shared_data, tmp_path):
    """Half a minute: 258 real masks are read and measured twice."""
    command = ["study", "masks", "--set", f"masks={shared_data / 'masks' / 'hemseg'}", "--reports", tmp_path]
    subprocess.run([sys.executable, "-m", "ich.cli", *command], check=True, capture_output=True)
    run = tmp_path / "masks"
    assert len(tables.read(run / "tables" / "measurements.csv")) == 258
    page = (run / "html" / "index.html").read_text()
    assert "no scans to train" in page
    assert str(shared_data) not in page + (run / "manifest.json").read_text()


@pytest.mark.slow
def test_predictions_of_another_tool_get_their_report(tmp_path):
    """Half a minute: three notebooks are run. Boxes of 10 x 10 x n voxels of 2 x 2 x 5 mm, n of them found less one."""
    for folder in ("reference", "prediction"):
        (tmp_path / folder).mkdir()
    for n in range(2, 8):
        for folder, found in (("reference", n), ("prediction", n - 1)):
            mask = np.zeros((40, 40, 12), dtype=np.uint8)
            mask[10:20, 10:20, 1 : 1 + found] = 1
            nib.save(nib.Nifti1Image(mask, np.diag([-2.0, -2.0, 5.0, 1.0])), tmp_path / folder / f"case{n}.nii.gz")
    for folder, marked in (("reference", 0), ("prediction", 3)):  # a scan without blood
        mask = np.zeros((40, 40, 14), dtype=np.uint8)
        mask[:marked, 0, 5] = 1
        nib.save(nib.Nifti1Image(mask, np.diag([-2.0, -2.0, 5.0, 1.0])), tmp_path / folder / "none.nii.gz")
    (tmp_path / "prediction" / "case7.nii.gz").rename(tmp_path / "prediction" / "other.nii.gz")
    about = pd.DataFrame({"case_id": [f"case{n}" for n in range(2, 8)], "patient_id": list("aabcde")})
    about = about.assign(hemorrhage_type="parenchymal", site="A", name="Doe")
    about = about.assign(age=range(50, 56))
    about.loc[len(about)] = {"case_id": "none", "patient_id": "f", "site": "A", "name": "Roe", "age": 90}
    about.to_csv(tmp_path / "about.csv", index=False)
    folders = ["--reference", tmp_path / "reference", "--prediction", tmp_path / "prediction"]
    command = [sys.executable, "-m", "ich.cli", "evaluate", *folders]
    options = ["--cohort", tmp_path / "about.csv", "--out", tmp_path / "run"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr  # what could not be compared is said, and the report stands
    assert "case7: prediction missing" in result.stderr
    assert "other: prediction without a reference" in result.stderr
    assert "none:" not in result.stderr
    run = tmp_path / "run"
    metrics = tables.read(run / "tables" / "metrics.csv").set_index("case_id")
    assert metrics["dice"].to_dict() == pytest.approx({f"case{n}": 2 * (n - 1) / (2 * n - 1) for n in range(2, 7)})
    row = pd.read_csv(run / "tables" / "agreement.csv").iloc[0]
    assert (row["method"], row["n"], row["n_missing"]) == ("network_ml", 5, 1)
    assert row["bias"] == pytest.approx(-2.0)  # one slice of 20 x 20 x 5 mm
    assert "made elsewhere" in (run / "html" / "index.html").read_text()
    cohort = tables.read(run / "tables" / "cohort.csv")
    assert cohort.loc[cohort["included"], "site"].tolist() == ["A"] * 6
    detected = pd.read_csv(run / "tables" / "detection.csv").set_index("marked")
    counts = detected.loc["at all", ["n_missing", "n_with", "n_found", "n_without", "n_false"]]
    assert counts.tolist() == [1, 5, 5, 1, 1]  # case7 has no prediction
    assert detected.loc["at all", "false_max_ml"] == pytest.approx(0.06)  # 3 voxels of 2 x 2 x 5 mm
    assert (detected.loc["from 0.1 ml", "n_false"], detected.loc["at all", "auc"]) == (0, 1)
    assert "name" not in cohort
    described = pd.read_csv(run / "tables" / "table1_by_split.csv").set_index("characteristic")["all"]
    assert described.filter(like="Age (years)").tolist() == ["53.0 [52.0,54.0]"]  # of 50, 52, 53, 54, 55
    answer = json.loads((run / "tables" / "answer.json").read_text())["answer"]
    assert answer.startswith("In 6 cases the volume differs from the reference by −2.0 ml for the predictions (n = 5; ")


@pytest.mark.slow
@pytest.mark.parametrize("volume", ["blood", "parenchymal"])
def test_the_parenchymal_part_can_be_compared_alone(tmp_path, volume):
    """Half a minute: two notebooks are run. Boxes of 20 x 20 x 5n mm, a third of them with 4 ml of another label."""
    masks = tmp_path / "given"
    masks.mkdir()
    rows = []
    for n in range(2, 11):
        mask = np.zeros((40, 40, 14), dtype=np.uint8)
        mask[10:20, 10:20, 1 : 1 + n] = 1
        if n % 3 == 0:
            mask[25:35, 25:35, 1:3] = 2
        nib.save(nib.Nifti1Image(mask, np.diag([-2.0, -2.0, 5.0, 1.0])), masks / f"case{n}.nii.gz")
        # Case 6 is stated to be what its labels contradict, as in tables of a registry.
        rows.append((f"case{n}", f"p{n}", "mixed" if n in (3, 9) else "parenchymal"))
    pd.DataFrame(rows, columns=["case_id", "patient_id", "hemorrhage_type"]).to_csv(masks / "scans.csv", index=False)
    settings = ["--set", f"masks={masks}", "--set", f"volume={volume}", "--reports", tmp_path]
    subprocess.run([sys.executable, "-m", "ich.cli", "study", "masks", *settings], check=True, capture_output=True)
    run = tmp_path / "masks"
    limits = " ".join(json.loads((run / "tables" / "answer.json").read_text())["limits"])
    page = (run / "html" / "index.html").read_text()
    agreed = pd.read_csv(run / "tables" / "agreement.csv").query("stratum == 'all' and method == 'abc2_ml'").iloc[0]
    if volume == "parenchymal":
        found = tables.read(run / "tables" / "measurements_parenchymal.csv", "measurements").set_index("case_id")
        assert found["reference_ml"].to_dict() == pytest.approx({f"case{n}": 2.0 * n for n in range(2, 11)})
        assert agreed["n"] == 9
        assert "label parenchymal alone" in limits
        assert "parenchymal blood, of which alone" in page
        assert verify_run(run).wrong == []
        again = ["study", "masks", "--set", f"masks={masks}", "--reports", tmp_path, "--resume"]
        subprocess.run([sys.executable, "-m", "ich.cli", *again], check=True, capture_output=True)
        # 04 leaves none of what it compared before.
        assert not (run / "tables" / "measurements_parenchymal.csv").exists()
        assert len(pd.read_csv(run / "tables" / "measurements.csv")) == 9
    else:
        found = tables.read(run / "tables" / "measurements.csv").set_index("case_id")
        assert found.loc["case6", "reference_ml"] == pytest.approx(2.0 * 6 + 4)
        assert agreed["n"] == 7  # two are mixed
        assert "outlines of 1 of 7 parenchymal cases hold blood of another label (4.0 ml on average" in limits
    assert verify_run(run).wrong == []


@pytest.mark.slow
def test_predictions_on_another_grid_are_told_case_by_case(tmp_path):
    """A quarter of a minute: two notebooks are run. The same box in slices of 5 and of 1.25 mm."""
    for folder, step in (("reference", 5.0), ("prediction", 1.25)):
        (tmp_path / folder).mkdir()
        for n in range(3):
            mask = np.zeros((20, 20, round(40 / step)), dtype=np.uint8)
            mask[5 : 10 + n, 5:10, mask.shape[2] // 4 : mask.shape[2] // 2] = 1
            nib.save(nib.Nifti1Image(mask, np.diag([-2.0, -2.0, step, 1.0])), tmp_path / folder / f"case{n}.nii.gz")
    folders = ["--reference", tmp_path / "reference", "--prediction", tmp_path / "prediction"]
    command = [sys.executable, "-m", "ich.cli", "evaluate", *folders, "--out", tmp_path / "run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "of 3 test cases none has a predicted mask that can be compared with its reference" in result.stderr
    left = tables.read(tmp_path / "run" / "tables" / "exclusions.csv").set_index("case_id")["reason"]
    assert sorted(left.index) == ["case0", "case1", "case2"]
    for case, reason in left.items():
        assert "shape (20, 20, 8)" in reason
        assert "(20, 20, 32)" in reason
        assert f"{case}: {reason}" in result.stderr
    assert not (tmp_path / "run" / "tables" / "metrics.csv").exists()


@pytest.mark.slow
def test_a_manifest_of_masks_alone_gets_its_report(tmp_path):
    """Half a minute: two notebooks are run. Boxes of 10 x 10 x n voxels of 2 x 2 x 5 mm; the second reader left out one
    slice of 2 ml."""
    rows = []
    for n in range(3, 9):
        for folder, slices in (("first", n), ("second", n - 1)):
            (tmp_path / folder).mkdir(exist_ok=True)
            mask = np.zeros((40, 40, 12), dtype=np.uint8)
            mask[10:20, 10:20, 1 : 1 + slices] = 1
            nib.save(nib.Nifti1Image(mask, np.diag([-2.0, -2.0, 5.0, 1.0])), tmp_path / folder / f"{n}.nii.gz")
        rows.append({"case_id": f"c{n}", "reference_mask": f"first/{n}.nii.gz", "second_mask": f"second/{n}.nii.gz"})
    pd.DataFrame(rows).assign(image=None).to_csv(tmp_path / "cases.csv", index=False)
    command = ["study", "masks", "--set", f"manifest={tmp_path / 'cases.csv'}", "--reports", tmp_path]
    subprocess.run([sys.executable, "-m", "ich.cli", *command], check=True, capture_output=True)
    measured = tables.read(tmp_path / "masks" / "tables" / "measurements.csv").set_index("case_id")
    assert measured["reference_ml"].to_dict() == pytest.approx({f"c{n}": 2.0 * n for n in range(3, 9)})
    found = tables.read(tmp_path / "masks" / "tables" / "agreement.csv").set_index(["method", "stratum"])
    assert found.loc[("second_reader_ml", "all"), ["n", "bias"]].tolist() == pytest.approx([6, -2.0])
