"""SCALE.md says what the committed tables say."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_plan_holds_the_figures_of_the_tables():
    made = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "scale_plan.py"))
    text = (ROOT / "SCALE.md").read_text(encoding="utf-8")
    assert made["MARKED"].search(text).group(0) == f"<!-- plan -->\n{made['table']()}<!-- /plan -->"
