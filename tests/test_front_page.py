"""The first page: its numbers are the tables', it says what a study lacks, and it says what is simulated."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from made_page import check_page

from ich import detection, report
from ich.front_page import index_html
from ich.marks import calipers, mark

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "reports" / "demo"
NETWORK_TABLES = ("metrics", "dice_by_type", "interval_coverage", "training")


@pytest.fixture
def demo(tmp_path):
    """The committed demo run, to change at will."""
    for folder in ("tables", "figures"):
        shutil.copytree(DEMO / folder, tmp_path / "demo" / folder)
    return tmp_path / "demo", json.loads((DEMO / "manifest.json").read_text())


def words(text: str) -> str:
    """What a reader reads, one space between words."""
    check_page(text)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text.partition("<main>")[2])).split())


def cases(run: Path) -> int:
    """How many the committed run compares; the number may change with the demo."""
    return int(pd.read_csv(run / "tables" / "agreement.csv")["n"].iloc[0])


def without_three_cases(run: Path) -> None:
    """Take away the pictures that 03 draws of segmented cases."""
    for path in (run / "figures").glob("case_*"):
        path.unlink()


def without_network(run: Path, manifest: dict) -> dict:
    """Make a run one of masks alone, as the profile `masks` leaves it."""
    for name in NETWORK_TABLES:
        (run / "tables" / f"{name}.csv").unlink()
    for name in ("agreement", "agreement_summary", "error_by_group", "assumption_checks"):
        path = run / "tables" / f"{name}.csv"
        table = pd.read_csv(path)
        table[~table["method"].str.contains("network|reader")].to_csv(path, index=False)
    (run / "tables" / "paired_errors.csv").unlink()
    without_three_cases(run)
    notebooks = {name: manifest["notebooks"][name] for name in ("01_cohort", "04_agreement")}
    left = {"02_training": "there are masks and no scans", "03_test_set": "there are no scans to segment"}
    return manifest | {"notebooks": notebooks, "left_out": left}


def test_the_answer_is_one_sentence_with_the_numbers_of_the_table(demo):
    run, manifest = demo
    row = pd.read_csv(run / "tables" / "agreement.csv").query("stratum == 'all'").set_index("method")
    said = re.search(r"<p class=\"answer\">(.*?)</p>", index_html(run, manifest)).group(1)
    found = [float(text.replace("−", "-")) for text in re.findall(r"[+−]?\d+\.\d+", said)]
    columns = ["bias", "bias_ci_low", "bias_ci_high", "loa_lower", "loa_upper"]
    assert found == pytest.approx([row.loc[m, c] for m in ("network_ml", "abc2_ml") for c in columns], abs=0.0501)
    assert said.startswith(f"In {cases(run)} simulated parenchymal hematomas")
    assert said.count(". ") == 0


def test_a_case_without_a_prediction_is_counted_in_the_answer(demo):
    run, manifest = demo
    table = pd.read_csv(run / "tables" / "agreement.csv")
    table.loc[(table["method"] == "network_ml") & (table["stratum"] == "all"), ["n", "n_missing"]] = [20, 7]
    table.to_csv(run / "tables" / "agreement.csv", index=False)
    text = words(index_html(run, manifest))
    assert re.search(r"95 % limits of agreement −\d+\.\d to \d+\.\d ml \(n = 20\); ABC/2's by", text)
    assert "Cases left out for want of a volume: network 7" in text


def test_sections_come_in_the_order_a_reader_asks(demo):
    run, manifest = demo
    identifiers = re.findall(r'<section[^>]* id="([\w-]+)"', index_html(run, manifest))
    wanted = ["answer", "flow", "table-1", "dice", "error", "agreement", "cases", "limits", "left-out", "more"]
    assert identifiers == [name for name in wanted if name in identifiers]
    assert set(wanted) - set(identifiers) <= {"cases", "left-out"}  # pictures need the scans of the run


def test_the_paper_stands_beside_the_run(demo):
    run, manifest = demo
    text = words(index_html(run, manifest))
    # Wang et al. 2019: Dice 0.87 parenchymal; absolute error of ABC/2 above 25 ml 19.31 ± 17.23 ml.
    interval = r"0\.\d\d \(0\.\d\d to \d\.\d\d\)"
    assert re.search(rf"parenchymal \d+ \(\d+\) {interval} {interval} 0\.87", text)
    assert "19.31 ± 17.23" in text
    assert "beside this run, not against it" in text


def test_simulated_data_are_said_to_be_simulated_in_title_and_tables(demo):
    run, manifest = demo
    page = index_html(run, manifest)
    assert "demo (simulated)</title>" in page
    assert "Simulated data." in page
    titles = re.findall(r'class="table-title"[^>]*>(.*?)<', page)
    assert len(titles) == 4
    assert all(title.endswith("(simulated data)") for title in titles)
    cohort = pd.read_csv(run / "tables" / "cohort.csv", dtype=str).assign(simulated=False)
    cohort.to_csv(run / "tables" / "cohort.csv", index=False)
    answer = json.loads((run / "tables" / "answer.json").read_text()) | {"simulated": False, "limits": []}
    (run / "tables" / "answer.json").write_text(json.dumps(answer))
    shutil.rmtree(run / "figures")
    page = index_html(run, manifest).partition("Behind the numbers")[0]
    assert "imulated" not in page.partition("<main>")[2]


def test_what_the_network_was_trained_on_and_not_tested_on_is_said(demo):
    run, manifest = demo
    card = {"trained_on": "simulated CT only; then on manifest own.csv", "not_tested": "patients elsewhere"}
    (run / "model").mkdir()
    (run / "model" / "settings.json").write_text(json.dumps(card))
    text = words(index_html(run, manifest))
    assert "Research use only: not a medical device, not for diagnosis or treatment." in text
    assert "The network was trained on: simulated CT only; then on manifest own.csv." in text
    assert "It was not tested on: patients elsewhere." in text
    given = {"03_test_set": {"parameters": {"predictions": "masks"}}}
    text = words(index_html(run, manifest | {"notebooks": manifest["notebooks"] | given}))
    assert "Research use only" in text
    assert "was trained on" not in text, "these predictions were made elsewhere"


def test_a_study_of_masks_alone_asks_about_abc2_and_says_what_it_lacks(demo):
    run, manifest = demo
    text = words(index_html(run, without_network(run, manifest)))
    assert "How well does ABC/2 agree with the reference volume?" in text
    bias = (
        pd.read_csv(run / "tables" / "agreement.csv").query("stratum == 'all' and method == 'abc2_ml'")["bias"].iloc[0]
    )
    assert f"differs from the reference: ABC/2's by {bias:+.1f} ml on average" in text
    assert "Overlap by type: there are no scans to segment" in text
    assert "Three cases: there are no scans to segment" in text
    assert "the network" not in text.partition("Left out")[0].partition("Limits of this study")[0]
    table = text.partition("Table 1")[2].partition("Volume error")[0]
    assert "All cases Parenchymal Ventricular Subarachnoid Mixed" in table  # splits were not used
    assert "train" not in table.lower()


def test_predictions_from_elsewhere_are_not_called_the_network(demo):
    run, manifest = demo
    manifest["notebooks"]["03_test_set"]["parameters"]["predictions"] = "…/masks"
    text = words(index_html(run, manifest))
    assert "How well do the volumes of the predictions and of ABC/2" in text
    assert "that of the predictions by" in text
    assert "The predictions were made elsewhere" in text


def test_a_cohort_alone_answers_with_its_cases(demo):
    run, manifest = demo
    kept = ("cohort.csv", "splits.csv", "exclusions.csv", "table1.csv", "table1_by_split.csv")
    for path in (run / "tables").iterdir():
        if path.name not in kept:
            path.unlink()
    without_three_cases(run)
    left = dict.fromkeys(("02_training", "03_test_set", "04_agreement"), "this run ends at the cohort")
    manifest = manifest | {"notebooks": {"01_cohort": manifest["notebooks"]["01_cohort"]}, "left_out": left}
    text = words(index_html(run, manifest))
    # R: median(v), quantile(v, c(.25, .75)) of the 150 reference volumes gives 17.5 and 9.1 to 31.5, as Table 1 has it.
    assert "150 of 150 simulated cases, of 132 patients, can be studied" in text
    assert "17.5 ml in the median (quartiles 9.1 to 31.5" in text
    for section in ("Overlap by type", "Volume error by group", "Agreement", "Three cases"):
        assert f"{section}: this run ends at the cohort" in text


def test_unchecked_differences_are_not_said_to_change_with_the_volume(demo):
    run, manifest = demo
    checks = pd.read_csv(run / "tables" / "assumption_checks.csv")
    steady = {"proportional_bias_p": 0.5, "spread_p": 0.5, "spread_slope": 0.0}
    for change, said in (
        ({"spread_p": 0.01, "spread_slope": 0.1}, "too wide for small ones and too narrow for large ones"),
        ({"spread_p": 0.01, "spread_slope": -0.1}, "too narrow for small ones and too wide for large ones"),
        ({"proportional_bias_p": 0.01}, "The bias changes with the volume"),
    ):
        checks.assign(**(steady | change)).to_csv(run / "tables" / "assumption_checks.csv", index=False)
        assert said in words(index_html(run, manifest))
    checks[["normality_p", "proportional_bias_p", "spread_p"]] = float("nan")  # as 04 writes fewer than 20 pairs
    checks.to_csv(run / "tables" / "assumption_checks.csv", index=False)
    table = pd.read_csv(run / "tables" / "agreement.csv")
    table[table["stratum"] == "all"].assign(n=4, limits_to_quote="unchecked").to_csv(
        run / "tables" / "agreement.csv", index=False
    )
    text = words(index_html(run, manifest))
    assert "with the volume (" not in text
    assert "large hematomas (" not in text
    assert "too few to check" in text
    assert "along a regression" not in text


def test_few_pairs_are_said_to_be_too_few(demo):
    run, manifest = demo
    row = {"method": "network_ml", "reference": "reference_ml", "stratum": "all", "n": 2, "n_missing": 0}
    columns = pd.read_csv(run / "tables" / "agreement.csv").columns
    pd.DataFrame([row | {"note": "2 pairs: no limits"}], columns=columns).to_csv(
        run / "tables" / "agreement.csv", index=False
    )
    text = words(index_html(run, manifest))
    assert "2 simulated cases are too few for limits of agreement: 2 pairs: no limits." in text


def test_a_run_without_any_table_is_still_a_page(tmp_path):
    manifest = json.loads((DEMO / "manifest.json").read_text()) | {"notebooks": {}, "tables": {}, "left_out": {}}
    (tmp_path / "tables").mkdir()
    found = check_page(index_html(tmp_path, manifest))
    assert "Table 1: 01_cohort is no part of this study" in " ".join(found.text.split())


def test_exclusions_stand_in_the_flow_with_their_reasons(demo):
    run, manifest = demo
    cohort = pd.read_csv(run / "tables" / "cohort.csv", dtype=str)
    cohort.loc[:1, ["included", "reason"]] = ["False", "mask of 3 < 5 slices & more"]
    cohort.to_csv(run / "tables" / "cohort.csv", index=False)
    text = index_html(run, manifest)
    assert "2 excluded: mask of 3 < 5 slices & more" in unescape(text)
    assert "3 < 5 slices" not in text  # escaped


def test_a_caliper_spans_what_its_row_says():
    row = {"name": "network", "bias": "0", "bias_ci_low": "-2.5", "bias_ci_high": "2.5"}
    drawn = calipers([row | {"loa_lower": "-10", "loa_upper": "10"}], margin_ml=5.0)
    one = drawn["rows"][0]
    assert (one["left"], one["width"], one["at"]) == (0, 100, 50)  # the scale is -10 to 10
    assert (one["bias_low"], one["bias_width"]) == (37.5, 25)
    assert drawn["margin"] == {"left": 25, "width": 50}
    assert [tick["text"] for tick in drawn["ticks"]] == ["−10", "−5", "0", "5", "10"]
    assert calipers([row | {"loa_lower": ""}]) is None


def test_a_mark_without_interval_or_paper_has_neither():
    assert mark("0.5", "0.25", "1", "0.75", 1.0) == {"at": 50, "low": 25, "width": 75, "published": 75}
    assert mark("3", "", "", "", 4.0) == {"at": 75, "low": None, "width": None, "published": None}


def test_a_report_brings_its_documents_and_every_link_of_the_page_leads_somewhere(demo, monkeypatch):
    run, manifest = demo
    monkeypatch.setattr(report, "print_pdf", lambda page, out: out.write_bytes(b"%PDF-") and "")
    index = report.write_report(run, manifest)
    assert "checklists.csv" in manifest["tables"]
    for name in manifest["notebooks"]:
        (run / "html" / f"{name}.html").touch()
    addresses = {link["href"].partition("#")[0] for link in check_page(index.read_text()).all("a")} - {"index.html"}
    assert {"report.pdf", "checklists.html", "../tables/agreement.docx", "../tables/table1.tex"} <= addresses
    assert [address for address in addresses if not (index.parent / address).is_file()] == []
    assert str(run) not in index.read_text()


def test_misses_and_false_alarms_are_limits(demo):
    run, manifest = demo
    rows = [
        ("network", "blood", 45, 1, 0, 0, "", ""),
        ("network", "ventricular", 12, 0, 33, 4, 0.021, 1.04),
        ("network", "subarachnoid", 9, 2, 36, 0, "", ""),
        ("second_reader", "subarachnoid", 9, 9, 36, 36, 1, 1),
    ]
    names = ["reader", "label", "n_with", "n_missed", "n_without", "n_false", "false_median_ml", "false_max_ml"]
    pd.DataFrame(rows, columns=names).to_csv(run / "tables" / "by_label.csv", index=False)
    text = words(index_html(run, manifest))
    assert "The network misses subarachnoid in 2 of 9 cases that have it." in text
    assert "the network marks it: ventricular in 4 of 33 cases (median 0.02 ml, at most 1.0 ml)." in text


def test_false_alarms_on_scans_without_blood_are_a_limit(demo):
    run, manifest = demo
    assert "Every test case holds blood" in words(index_html(run, manifest))
    # 2 of 12 scans are marked; Wilson's interval of that share is 0.047 to 0.448.
    found = detection.detection([9.0, 8, *[0.0] * 10, 0.54, 0.2], [True] * 2 + [False] * 12, range(14))
    found.assign(reader="network").to_csv(run / "tables" / "detection.csv", index=False)
    text = words(index_html(run, manifest))
    assert "On 2 of 12 scans without blood the network marks blood (95 % interval of the share 0.05 to 0.45; at" in text
    assert "Every test case holds blood" not in text
    found.assign(method="ABC/2").to_csv(run / "tables" / "detection.csv", index=False)  # of 07, which marks nothing
    assert "scans without blood" not in words(index_html(run, manifest))
