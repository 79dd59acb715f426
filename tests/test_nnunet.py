import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from made_dicom import write_series

from ich import nnunet, tables
from ich.scan import read_mask, read_scan, write_mask
from ich.sources import find_cases


@pytest.fixture
def run(tmp_path):
    """A run of three cases, one of them a DICOM series."""
    folder = tmp_path / "run"
    rows = []
    for n, name in enumerate(("a", "b", "c")):
        image = folder / "data" / "images" / name
        if name == "c":
            write_series(image, np.arange(6) * 5.0)
        else:
            image = image.with_name(f"{name}.nii.gz")
            image.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.full((32, 24, 6), n, np.int16), np.diag([-0.5, -0.5, 5, 1])), image)
        scan = read_scan(image)
        labels = np.zeros(scan.hu.shape, np.uint8)
        labels[10:14, 10:14, 2] = n + 1
        mask = folder / "data" / "masks" / f"{name}.nii.gz"
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_mask(mask, labels, scan.grid)
        paths = {"image": image, "reference_mask": mask}
        rows.append({"case_id": name, "patient_id": name, "included": True, "source": "x", "simulated": False}
                    | {key: str(path.relative_to(folder)) for key, path in paths.items()})  # fmt: skip
    cohort = pd.DataFrame(rows).reindex(columns=[*tables.SCHEMAS["cohort"].columns, *rows[0]]).pipe(
        lambda frame: frame.loc[:, ~frame.columns.duplicated()]
    )  # fmt: skip
    tables.write(cohort, folder / "tables" / "cohort.csv")
    splits = pd.DataFrame(
        {"case_id": ["a", "b", "c"], "patient_id": ["a", "b", "c"], "split": ["train", "validation", "test"]}
    )
    tables.write(splits, folder / "tables" / "splits.csv")
    return folder


def test_what_is_exported_is_read_again_as_an_nnunet_dataset(run, tmp_path):
    folder = nnunet.export(run, tmp_path / "raw")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")) == [
        "imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTs/c_0000.nii.gz",
        "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "labelsTs/c.nii.gz",
    ]  # fmt: skip
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": ["a"], "val": ["b"]}]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
    found = find_cases("nnunet", folder).cases.set_index("case_id")
    assert found.loc["c", "split"] == "test"
    assert found["reason"].isna().all()
    series = read_scan(run / "data" / "images" / "c")
    again = read_scan(folder / "imagesTs" / "c_0000.nii.gz")
    np.testing.assert_array_equal(series.hu, again.hu)
    np.testing.assert_allclose(series.grid.affine, again.grid.affine, atol=1e-4)
    assert set(np.unique(read_mask(folder / "labelsTr" / "b.nii.gz")[0])) == {0, 2}


def test_nothing_is_written_over(run, tmp_path):
    nnunet.export(run, tmp_path / "raw")
    with pytest.raises(ValueError, match="is there already"):
        nnunet.export(run, tmp_path / "raw")


def test_a_mask_whose_axes_run_the_other_way_labels_the_same_voxels(run, tmp_path):
    """nnU-Net lays both arrays over each other as they are in their files."""
    path = run / "data" / "masks" / "a.nii.gz"
    stored = nib.load(path)
    blood = np.asarray(stored.dataobj) == 1
    nib.save(nib.as_closest_canonical(stored), path)
    assert nib.aff2axcodes(nib.load(path).affine) != nib.aff2axcodes(stored.affine)
    image = run / "data" / "images" / "a.nii.gz"
    hu = np.where(blood, 65, 30).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, nib.load(image).affine), image)
    folder = nnunet.export(run, tmp_path / "raw")
    exported, labels = (nib.load(folder / name) for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"))
    np.testing.assert_allclose(exported.affine, labels.affine)
    assert set(exported.get_fdata()[np.asarray(labels.dataobj) == 1]) == {65}
