"""A run's cohort in nnU-Net's raw layout, so that nnU-Net trains and is tested on the same splits.

Layout: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
The way back is `ich.sources` (kind nnunet) for a dataset and the parameter `predictions` of 03_test_set for its masks.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ich import tables
from ich.atomic import replacing, write_text
from ich.scan import read_mask, read_scan, write_mask, write_scan
from ich.tables import LABELS


def export(run_dir: Path, out: Path, name: str = "Dataset501_ICH") -> Path:
    """Write the included cases of a run into `out`/`name`: training and validation as Tr, test as Ts.

    `splits_final.json`, for nnUNet_preprocessed/`name`, holds one fold: the run's training and validation cases.

    Returns
    -------
    The dataset's folder.

    Raises
    ------
    ValueError
        The folder is there already, a case has no scan, or the run has no training case.
    """
    cohort = tables.read(run_dir / "tables" / "cohort.csv")
    splits = tables.read(run_dir / "tables" / "splits.csv")
    of_case = dict(zip(splits["case_id"], splits["split"], strict=True))
    cases = cohort[cohort["included"] & cohort["case_id"].isin(of_case)]
    folder = out / name
    if folder.exists():
        raise ValueError(f"{folder}: is there already")
    without = cases.loc[cases["image"].isna(), "case_id"]
    if len(without):
        raise ValueError(f"{len(without)} cases have no scan, the first is {without.iloc[0]}")
    parts = {part: sorted(case for case, split in of_case.items() if split == part) for part in tables.SPLITS}
    if not parts["train"]:
        raise ValueError(f"{run_dir.name}: no case in the training split")
    for case in cases.itertuples():
        end = "Ts" if of_case[str(case.case_id)] == "test" else "Tr"
        sources = run_dir / str(case.image), run_dir / str(case.reference_mask)
        _pair(sources, (folder / f"images{end}", folder / f"labels{end}"), str(case.case_id))
    about = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **LABELS},
        "numTraining": len(parts["train"]) + len(parts["validation"]),
        "file_ending": ".nii.gz",
        # The reader that keeps the affine of a tilted scan; nnU-Net's usual one squares it.
        "overwrite_image_reader_writer": "NibabelIO",
    }
    write_text(folder / "dataset.json", json.dumps(about, indent=2) + "\n")
    fold = [{"train": parts["train"], "val": parts["validation"]}]
    write_text(folder / "splits_final.json", json.dumps(fold, indent=2) + "\n")
    return folder


def _pair(sources: tuple[Path, Path], folders: tuple[Path, Path], case_id: str) -> None:
    """Scan and mask as they are where both are NIfTI files of one grid, else both written anew on the scan's grid.

    nnU-Net takes both arrays as they lie in their files: a mask whose axes run the other way would label other voxels.
    """
    image, labels = folders[0] / f"{case_id}_0000.nii.gz", folders[1] / f"{case_id}.nii.gz"
    if all(source.name.endswith(".nii.gz") for source in sources):
        headers: list[Any] = [nibabel.load(source) for source in sources]
        if headers[0].shape == headers[1].shape and np.allclose(headers[0].affine, headers[1].affine, atol=1e-3):
            for source, target in zip(sources, (image, labels), strict=True):
                with replacing(target) as part:
                    shutil.copyfile(source, part)  # with a link, who edits the export would change the scan itself
            return
    scan = read_scan(sources[0])
    write_scan(image, scan.hu, scan.grid)
    write_mask(labels, read_mask(sources[1])[0], scan.grid)
