"""The arithmetic of SCALE.md: what a million scans of 512 x 512 x 32 would take, from the committed tables.

Rewrites the table between the markers of SCALE.md; tests/test_scale.py compares it with what the tables say now.
"""

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
CHECKS, DEMO = ROOT / "reports" / "checks", ROOT / "reports" / "demo" / "tables"
SCANS = 1_000_000
MARKED = re.compile(r"(<!-- plan -->\n).*?(<!-- /plan -->)", re.DOTALL)


def plan() -> list[tuple[str, str, str, str]]:
    """Rows of the table: what, measured, where it stands, and for a million scans."""
    weights = pd.read_csv(CHECKS / "weights.csv").set_index(["group", "stratum", "quantity"])["value"]
    predict_s = float(weights["512 x 512 x 32", "1 thread", "seconds"])
    read = pd.read_csv(CHECKS / "bench_read.csv").set_index("what")["seconds"]
    read_s = float(read["28 DICOM slices: ich.read_scan"]) / 28 * 32
    growth = pd.read_csv(CHECKS / "bench_growth.csv")
    at = growth[growth["grows"] == "pixels on a side"].set_index(["task", "at"])["seconds"]
    measure_s = float(at["ABC/2, all variants", 512] + at["overlap panel", 512])
    cluster = pd.read_csv(CHECKS / "bench_cluster.csv")
    dask = cluster[(cluster["on"] == "Dask") & (cluster["task"] == "evaluate pairs") & (cluster["workers"] == 2)]
    overhead_s = float(dask["overhead_ms_per_case"].dropna().iloc[0]) / 1000
    large = cluster[cluster["task"].str.startswith("agreement")].iloc[0]
    files = {name: DEMO / f"{name}.csv" for name in ("cohort", "metrics", "measurements", "splits")}
    per_case = sum(path.stat().st_size / pd.read_csv(path)["case_id"].nunique() for path in files.values())
    hours = SCANS / 3600
    return [
        ("voxels, not compressed", f"{512 * 512 * 32 * 2 / 1e6:.1f} MB a scan", "arithmetic",
         f"{512 * 512 * 32 * 2 * SCANS / 1e12:.1f} TB"),
        ("reading, from DICOM", f"{1000 * read_s:.0f} ms", "bench_read.csv", f"{read_s * hours:.0f} core-hours"),
        ("prediction, shipped weights", f"{predict_s:.2f} s on one thread", "weights.csv",
         f"{predict_s * hours:.0f} core-hours"),
        ("ABC/2 and overlap", f"{1000 * measure_s:.0f} ms", "bench_growth.csv", f"{measure_s * hours:.0f} core-hours"),
        ("tables", f"{per_case / 1000:.1f} kB a case", "reports/demo/tables", f"{per_case * SCANS / 1e9:.1f} GB"),
        ("the scheduler's own work", f"{1000 * overhead_s:.1f} ms a case", "bench_cluster.csv",
         f"{overhead_s * hours:.1f} hours; at most {1 / overhead_s:.0f} cases a second"),
        ("workers that one scheduler keeps busy with prediction", "", "the two rows above",
         f"{predict_s / overhead_s:.0f} of one thread"),
        ("agreement of one method", f"{large['seconds']:.0f} s and {large['caller_peak_gb']:.1f} GB for "
         f"{large['n']:.0f} cases", "bench_cluster.csv",
         f"not on all pairs: n² of them are {large['seconds'] * (SCANS / large['n']) ** 2 / 3600:.0f} hours"),
    ]  # fmt: skip


def table() -> str:
    """The table in Markdown."""
    lines = ["| what | measured | in | a million scans |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in plan())]) + "\n"


def main() -> None:
    path = ROOT / "SCALE.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(MARKED.sub(lambda found: found.group(1) + table() + found.group(2), text), encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
