"""Time reading of real masks and of a DICOM series: share outside decompression, and beside nibabel and SimpleITK.

Wants the scans at ../shared/data and, for the DICOM comparison, SimpleITK. Prints a table and writes
reports/checks/bench_read.csv. One thread, CPU time.
"""

import gzip
import importlib.util
import platform
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from ich.scan import read_mask, read_scan

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
ROUNDS = 5


def seconds(run) -> float:
    """CPU seconds: the least of some rounds after a first one that puts the files in memory."""
    run()
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def one_by_one(read, paths: list[Path]) -> None:
    """Read and drop each: as a cohort is gone through, and so that getting memory for all is not timed."""
    for path in paths:
        read(path)


def with_simpleitk(folder: Path) -> np.ndarray:
    """The series as SimpleITK's own reader gives it: HU of the slices in order, even spacing assumed."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def main() -> None:
    """Time and write."""
    if not DATA.is_dir():
        print("bench_read: left out, there are no real scans at ../shared/data")
        return
    masks = sorted((DATA / "masks" / "hemseg").glob("*.nii.gz"))
    runs = {
        "258 masks: gzip alone": lambda: one_by_one(lambda path: gzip.decompress(path.read_bytes()), masks),
        "258 masks: ich.read_mask": lambda: one_by_one(read_mask, masks),
        "258 masks: nibabel": lambda: one_by_one(lambda path: np.asarray(nib.load(path).dataobj), masks),
        "28 DICOM slices: ich.read_scan": lambda: read_scan(DATA / "dicom" / "ge_head"),
    }
    if importlib.util.find_spec("SimpleITK"):
        runs["28 DICOM slices: SimpleITK"] = lambda: with_simpleitk(DATA / "dicom" / "ge_head")
    else:
        print("bench_read: SimpleITK is not installed, its time is left out", file=sys.stderr)
    rows = [{"what": what, "seconds": seconds(run)} for what, run in runs.items()]
    table = pd.DataFrame(rows)
    took = table.set_index("what")["seconds"]
    outside = 1 - took["258 masks: gzip alone"] / took["258 masks: ich.read_mask"]
    table["note"] = ""
    table.loc[1, "note"] = f"{outside:.0%} outside decompression"
    table["machine"] = f"{platform.machine()}, Python {platform.python_version()}, nibabel {nib.__version__}"
    out = ROOT / "reports" / "checks" / "bench_read.csv"
    table.to_csv(out, index=False, float_format="%.4g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
