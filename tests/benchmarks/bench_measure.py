"""Time ABC/2, the overlap panel and a folder of masks; compare the panel with MONAI's functions.

Prints a table and writes reports/checks/bench_measure.csv. One thread; the folder runs in two processes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported

import platform
import statistics
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai import metrics as monai_metrics

from ich.abc2 import abc2_variants
from ich.measure import measure_masks
from ich.overlap import overlap

ROOT = Path(__file__).resolve().parents[2]
SPACING, STEP, SHAPE = (0.45, 0.45), 5.0, (512, 512, 32)
POSITIONS = np.arange(SHAPE[2]) * STEP
PACKAGES = ("numpy", "scipy", "torch", "monai")


def lobed(shift_mm: float, scale: float) -> np.ndarray:
    """Irregular lesion of about 70 ml in 512 x 512 x 32."""
    x, y, z = ((np.arange(n) - n // 2) * s for n, s in zip(SHAPE, (*SPACING, STEP), strict=True))
    x, y, z = x[:, None, None], y[None, :, None] + shift_mm, z[None, None]
    angle = np.arctan2(y, x)
    lobes = 1 + 0.15 * np.sin(3 * angle) + 0.1 * np.sin(7 * angle + z / 5)
    return (x / 30) ** 2 + (y / 24.5) ** 2 + (z / 22) ** 2 <= (scale * lobes) ** 2


def milliseconds(run, repeats: int = 9) -> tuple[float, float]:
    """Fastest and median time of one call, the first one not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return min(times), statistics.median(times)


def monai_runs(reference: np.ndarray, predicted: np.ndarray) -> dict:
    """MONAI's functions for the metrics of our panel that it has."""
    pair = [torch.as_tensor(mask)[None, None].float() for mask in (predicted, reference)]
    options = {"include_background": True, "spacing": (*SPACING, STEP)}
    hausdorff, surface_dice = monai_metrics.compute_hausdorff_distance, monai_metrics.compute_surface_dice
    return {
        "MONAI Dice": lambda: monai_metrics.compute_dice(*pair),
        "MONAI IoU": lambda: monai_metrics.compute_iou(*pair),
        "MONAI HD": lambda: hausdorff(*pair, **options),
        "MONAI HD95": lambda: hausdorff(*pair, percentile=95, **options),
        "MONAI ASSD": lambda: monai_metrics.compute_average_surface_distance(*pair, symmetric=True, **options),
        "MONAI NSD 1 mm, area": lambda: surface_dice(*pair, [1.0], use_subvoxels=True, **options),
        "MONAI NSD 2 mm, area": lambda: surface_dice(*pair, [2.0], use_subvoxels=True, **options),
    }


def machine() -> str:
    """Processor and number of cores."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    reference, predicted = lobed(0, 1), lobed(2.7, 0.96)
    specked = reference.copy()
    specked[60:62, 70:72, 3] = specked[450, 400, 28] = True
    volume = f"{np.count_nonzero(reference) * SPACING[0] * SPACING[1] * STEP / 1000:.0f} ml"
    runs = [
        (f"ABC/2, all variants, {volume} lesion", lambda: abc2_variants(reference, SPACING, POSITIONS), 15),
        ("ABC/2, all variants, with two far specks", lambda: abc2_variants(specked, SPACING, POSITIONS), 15),
        (f"overlap panel, {volume} lesion", lambda: overlap(reference, predicted, SPACING, POSITIONS), 100),
    ]
    rows = [(name, *milliseconds(run), limit) for name, run, limit in runs]
    ours = rows[-1][2]
    theirs = [(name, *milliseconds(run, 3), None) for name, run in monai_runs(reference, predicted).items()]
    total = sum(row[2] for row in theirs)
    rows += [*theirs, ("MONAI, the seven together", sum(row[1] for row in theirs), total, None)]
    masks = sorted((ROOT.parent / "shared" / "data" / "masks" / "hemseg").glob("*.nii.gz"))
    if masks:
        seconds = milliseconds(lambda: measure_masks(masks, jobs=2), 1)
        rows.append((f"{len(masks)} mask files to a table, 2 processes", *seconds, 15000))
    table = pd.DataFrame(rows, columns=["task", "min_ms", "median_ms", "limit_ms"]).round(1)
    table["machine"] = machine()
    table["versions"] = f"Python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in PACKAGES)
    table.to_csv(ROOT / "reports" / "checks" / "bench_measure.csv", index=False)
    print(table.iloc[:, :4].to_string(index=False, na_rep=""))
    print(f"MONAI over ours (median): {total / ours:.1f}")


if __name__ == "__main__":
    main()
