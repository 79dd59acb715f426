"""What the shipped weights do on scans they never saw: Dice by type, false blood, seconds a scan.

Writes reports/checks/weights.csv, and for the shipped weights the same figures into their model card. All cases are
simulated but those of two real heads, as they are and with blood of real shape put into them: the one of
../shared/data/dicom/ge_head and that of `--invesalius` (each left out where it is missing). Neither bleeds.
"""

import argparse
import json
import math
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from real_head import brain, invesalius_head, outlines, with_blood

from ich.abc2 import abc2_variants
from ich.model import SHIPPED_WEIGHTS, load_weights
from ich.overlap import overlap
from ich.phantom import hemorrhage_type, make_case
from ich.predict import predict
from ich.resampling import SHARE, bootstrap_mean, share_interval
from ich.scan import Scan, read_mask, read_scan, write_mask, write_scan
from ich.tables import LABELS, write_plain
from ich.variety import make_wide_case

ROOT = Path(__file__).resolve().parents[2]
CARD = SHIPPED_WEIGHTS / "MODEL_CARD.md"
GE_HEAD = ROOT.parent / "shared" / "data" / "dicom" / "ge_head"
OUTLINES = ROOT.parent / "shared" / "data" / "masks" / "hemseg"
# No case that weights or settings were chosen on has one of these seeds.
EMBEDDED_SEED, FRESH_SEED, VARIED_SEED = 2019, 3019, 7919
TYPES = ("parenchymal", "ventricular", "subarachnoid", "mixed")
SMALL_ML = 2.0  # of a hematoma in the real head
FALSE_ML = 0.1  # false blood beyond this counts as a false alarm

_loaded: dict = {}


def network(folder: Path):
    """Weights, loaded once a process."""
    if folder not in _loaded:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        _loaded[folder] = load_weights(folder, torch.device("cpu"))[:2]
    return _loaded[folder]


def rendered(group: str, seed: int, index: int, cache: Path | None):
    """One case, from `cache` where it is there."""
    make = make_wide_case if group.startswith("varied") else make_case
    if cache is None:
        return make(seed, index)
    path = cache / f"{make.__name__}-{seed}-{index}.pickle"
    if not path.is_file():
        path.write_bytes(pickle.dumps(make(seed, index)))
    return pickle.loads(path.read_bytes())


def measured(folder: Path, cache: Path | None, group: str, seed: int, index: int) -> dict:
    """One case: Dice of blood and of each label, and the volumes."""
    case = rendered(group, seed, index, cache)
    patient = getattr(case, "patient_id", str(index))
    found = predict(*network(folder), Scan(case.grid, case.hu, "simulated")).labels
    row = {
        "group": group,
        "hemorrhage_type": case.hemorrhage_type if (case.labels > 0).any() else "none",
        "patient": patient,
        "reference_ml": case.grid.volume_ml(case.labels > 0),
        "predicted_ml": case.grid.volume_ml(found > 0),
    }
    place = case.grid.spacing_mm, case.grid.positions_mm
    for name, reference, predicted in (
        ("blood", case.labels > 0, found > 0),
        *((name, case.labels == label, found == label) for name, label in LABELS.items()),
    ):
        row[name] = overlap(reference, predicted, *place)["dice"] if reference.any() else np.nan
        row[f"{name}_ml"] = case.grid.volume_ml(predicted)
    return row


def put_in(folder: Path, scan: Scan, inside: np.ndarray, patient: str, mask: Path, seed: int) -> dict | None:
    """Dice and volumes of one hematoma in the real head; None where it fits nowhere."""
    outline, grid = read_mask(mask)
    filled = with_blood(scan, inside, outline > 0, grid, seed)
    if filled is None:
        return None
    bleeding, reference = filled
    found = predict(*network(folder), bleeding).labels > 0
    both = overlap(reference, found, scan.grid.spacing_mm, scan.grid.positions_mm)
    return {
        "patient": patient, "dice": both["dice"],
        "reference_ml": scan.grid.volume_ml(reference), "predicted_ml": scan.grid.volume_ml(found),
    }  # fmt: skip


def real_head_rows(folder: Path, name: str, scan: Scan, n: int, jobs: int) -> list[dict]:
    """A real head as it is, and with the hematomas of n patients put in one by one."""
    false_ml = predict(*network(folder), scan).volume_ml
    rows = [{"group": f"real head, {name}", "stratum": "none", "quantity": "false_ml", "n": 1, "value": false_ml}]
    if not OUTLINES.is_dir():
        return rows
    inside, group = brain(scan), f"real head, {name}, real outlines filled in"
    tried = joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(put_in)(folder, scan, inside, *outline, seed)
        for seed, outline in enumerate(outlines(OUTLINES)[:n])
    )
    cases = pd.DataFrame([case for case in tried if case is not None])
    small = cases["reference_ml"] < SMALL_ML
    for stratum, part in ((f"under {SMALL_ML:g} ml", cases[small]), (f"{SMALL_ML:g} ml and over", cases[~small])):
        error = part["predicted_ml"] - part["reference_ml"]
        missed = (part["predicted_ml"] == 0).astype(float)
        for quantity, values in (("dice_blood", part["dice"]), ("error_ml_mean", error), ("share_missed", missed)):
            rows.append(mean_row(group, stratum, quantity, values, part["patient"]))
    rows.append(
        {"group": group, "stratum": "all", "quantity": "fit_nowhere", "n": len(tried), "value": tried.count(None)}
    )
    return rows


def test_split() -> list[int]:
    """Indices of the demo's test split."""
    splits = pd.read_csv(ROOT / "reports" / "demo" / "tables" / "splits.csv", dtype="str")
    return [int(case.split("-")[1]) for case in splits.loc[splits["split"] == "test", "case_id"]]


def first_of_each_type(seed: int, n: int) -> list[int]:
    """Indices of the first n embedded cases of each type."""
    kinds = pd.Series([hemorrhage_type(seed, index) for index in range(20 * n)])
    return sorted(index for kind in TYPES for index in kinds.index[kinds == kind][:n])


def mean_row(group: str, stratum: str, quantity: str, values: pd.Series, patients: pd.Series) -> dict:
    """One row of the table: a mean over cases with its interval over patients."""
    within = SHARE if quantity.startswith("dice") else (-math.inf, math.inf)
    mean = bootstrap_mean(values, patients, seed=1, within=within)
    low, high = share_interval(values, patients) if quantity.startswith("share") else mean.mean_ci
    return {
        "group": group, "stratum": stratum, "quantity": quantity, "n": mean.n, "n_patients": mean.n_patients,
        "value": mean.mean, "ci_low": low, "ci_high": high,
    }  # fmt: skip


def summary(cases: pd.DataFrame) -> list[dict]:
    """Dice by type and by label where there is blood, false blood where there is none."""
    rows = []
    for group, part in cases.groupby("group", sort=False):
        for kind in TYPES:
            of_kind = part[part["hemorrhage_type"] == kind]
            if len(of_kind):
                rows.append(mean_row(str(group), kind, "dice_blood", of_kind["blood"], of_kind["patient"]))
        for name in LABELS:
            present = part.dropna(subset=name)
            if len(present):
                rows.append(mean_row(str(group), f"label {name}", "dice_label", present[name], present["patient"]))
                missed = (present[f"{name}_ml"] == 0).astype(float)
                rows.append(mean_row(str(group), f"label {name}", "share_missed", missed, present["patient"]))
            absent = part[part[name].isna() & (part["hemorrhage_type"] != "none")]
            if len(absent):
                marked = (absent[f"{name}_ml"] > 0).astype(float)
                rows.append(mean_row(str(group), f"label {name}", "share_marked_without", marked, absent["patient"]))
        none = part[part["hemorrhage_type"] == "none"]
        if len(none):
            false = none["predicted_ml"]
            alarms = (false > FALSE_ML).astype(float)
            rows.append(mean_row(str(group), "none", "false_ml_mean", false, none["patient"]))
            rows.append(mean_row(str(group), "none", f"share_above_{FALSE_ML:g}_ml", alarms, none["patient"]))
            for name, value in (("false_ml_median", false.median()), ("false_ml_p95", false.quantile(0.95))):
                rows.append({"group": group, "stratum": "none", "quantity": name, "n": len(none), "value": value})
    return rows


def fastest(work: Callable[[], object], n: int = 5) -> float:
    """Seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def seconds_a_scan(folder: Path) -> list[dict]:
    """Fastest of five predictions of a 512 x 512 x 32 scan: in memory, and from NIfTI to mask on disk with ABC/2."""
    index = next(i for i in range(99) if make_case(FRESH_SEED, i, 64).hu.shape[2] == 32)
    case = make_case(FRESH_SEED, index, 512)
    ready = network(folder)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        image, mask = Path(made) / "scan.nii.gz", Path(made) / "mask.nii.gz"
        write_scan(image, case.hu, case.grid)

        def disk_to_disk() -> None:
            scan = read_scan(image)
            labels = predict(*ready, scan).labels
            write_mask(mask, labels, scan.grid)
            abc2_variants(labels > 0, scan.grid.spacing_mm, scan.grid.positions_mm)

        works = (
            ("1 thread", 1, lambda: predict(*ready, Scan(case.grid, case.hu, "simulated"))),
            ("from disk to disk, 1 thread", 1, disk_to_disk),
            ("from disk to disk, 2 threads", 2, disk_to_disk),
        )
        for stratum, threads, work in works:
            torch.set_num_threads(threads)
            value = fastest(work)
            rows.append({"group": "512 x 512 x 32", "stratum": stratum, "quantity": "seconds", "n": 5, "value": value})
    return rows


def write_card(table: pd.DataFrame) -> None:
    """Put the table and the hash of the weights between the marks of the model card."""
    lines = ["| cases | stratum | quantity | n | value | 95 % interval |", "|---|---|---|---|---|---|"]
    for row in table.itertuples():
        interval = "" if pd.isna(row.ci_low) else f"{row.ci_low:.2f} to {row.ci_high:.2f}"
        lines.append(f"| {row.group} | {row.stratum} | {row.quantity} | {row.n} | {row.value:.2f} | {interval} |")
    digest = json.loads((SHIPPED_WEIGHTS / "settings.json").read_text())["sha256"]
    before, rest = CARD.read_text().split("<!-- figures -->")
    after = rest.split("<!-- end of figures -->")[1]
    figures = "\n".join([f"SHA-256 of the weights: {digest[:12]}…", "", *lines])
    CARD.write_text(f"{before}<!-- figures -->\n\n{figures}\n\n<!-- end of figures -->{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "checks" / "weights.csv")
    parser.add_argument("--fresh", type=int, default=15, help="fresh embedded cases of each type")
    parser.add_argument("--varied", type=int, default=120, help="varied cases")
    parser.add_argument("--outlines", type=int, default=100, help="real outlines put into the real head")
    parser.add_argument("--cache", type=Path, help="existing folder that keeps rendered cases for other weights")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--invesalius", type=Path, metavar="CRANIUM.INV3", help="see real_head.invesalius_head")
    options = parser.parse_args()
    work = [("embedded cohort, demo test split", EMBEDDED_SEED, index) for index in test_split()]
    work += [("embedded kind, another seed", FRESH_SEED, i) for i in first_of_each_type(FRESH_SEED, options.fresh)]
    work += [("varied", VARIED_SEED, index) for index in range(options.varied)]
    cases = pd.DataFrame(
        joblib.Parallel(n_jobs=options.jobs)(
            joblib.delayed(measured)(options.weights, options.cache, *case) for case in work
        )
    )
    rows = summary(cases)
    heads = {"GE": read_scan(GE_HEAD)} if GE_HEAD.is_dir() else {}
    if options.invesalius:
        heads["InVesalius"] = invesalius_head(options.invesalius)
    for name, scan in heads.items():
        rows += real_head_rows(options.weights, name, scan, options.outlines, options.jobs)
    rows += seconds_a_scan(options.weights)
    table = pd.DataFrame(rows)
    write_plain(table, options.out)
    if options.weights == SHIPPED_WEIGHTS:
        write_card(table)
    print(table.round(3).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
