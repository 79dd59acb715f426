"""Runs on the same cases: what is shared, what must be alike, and what their difference is."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from made_page import check_page
from scipy.stats import bootstrap, wilcoxon
from statsmodels.stats.multitest import multipletests

from ich import cli
from ich.compare import compare, read_run, read_runs, shared_cases
from ich.compare_page import write_comparison

RNG = np.random.default_rng(7)
REFERENCE = RNG.lognormal(2.7, 0.8, 24)
CASES = pd.DataFrame(
    {
        "case_id": [f"case-{i:02}" for i in range(24)],
        "patient_id": [f"p{i:02}" for i in range(24)],
        "hemorrhage_type": ["parenchymal"] * 20 + ["ventricular"] * 4,
        "reference_ml": REFERENCE,
    }
)


def write_run(folder, volumes, dice=None, cases=CASES, simulated=True, **parameters):
    """A finished run folder with the tables that a comparison reads."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump({"title": "Study"}))
    manifest = {"run": folder.name, "title": "Study", "ended": "2026-01-02T03:04:05+00:00", "code": {"commit": "abc"}}
    manifest["notebooks"] = {"02_training": {"parameters": {"run_dir": str(folder), "steps": 5, **parameters}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    cases.assign(network_ml=volumes).to_csv(tables / "measurements.csv", index=False)
    known = ["case_id", "patient_id", "hemorrhage_type"]
    if dice is not None:
        volumes = {"reference_ml": cases["reference_ml"], "predicted_ml": volumes}
        metrics = cases[known].assign(reader="network", label="blood", dice=dice, **volumes)
        metrics.to_csv(tables / "metrics.csv", index=False)
    cohort = cases[known].assign(source="made", simulated=simulated, included=True)
    cohort.to_csv(tables / "cohort.csv", index=False)
    return folder


@pytest.fixture
def two(tmp_path):
    """Two runs: the second measures 1 ml more in every case, and its Dice is 0.02 less."""
    dice = np.linspace(0.7, 0.95, 24)
    first = write_run(tmp_path / "first", REFERENCE + 0.5, dice, training_seed=1)
    return first, write_run(tmp_path / "second", REFERENCE + 1.5, dice - 0.02, training_seed=2)


def test_a_constant_difference_is_found_with_an_interval_of_no_width(two):
    found = compare(read_runs(list(two)))
    rows = found.paired.set_index(["measure", "group"])
    for key, wanted in {
        ("volume, ml", "all"): -1.0,
        ("absolute error, ml", "all"): -1.0,
        ("Dice", "all"): 0.02,
        ("Dice", "ventricular"): 0.02,
    }.items():
        row = rows.loc[key]
        assert [row["difference"], row["difference_ci_low"], row["difference_ci_high"]] == pytest.approx([wanted] * 3)
    assert rows.loc[("volume, ml", "all"), "n"] == 20  # parenchymal alone, as in a run's own report
    assert rows.loc[("Dice", "all"), "n"] == 24
    assert found.agreement["bias"].tolist() == pytest.approx([0.5, 1.5])


def test_differences_are_told_apart_by_columns_of_the_cohort(two, tmp_path):
    """The second run is off by 1 ml more at A, by 3 ml more at B; its Dice is 0.02 less in both."""
    path = two[0] / "tables" / "cohort.csv"
    cohort = pd.read_csv(path).assign(site=["A", "B"] * 11 + ["A", None], age=range(40, 64))
    cohort.to_csv(path, index=False)
    measured = two[1] / "tables" / "measurements.csv"
    table = pd.read_csv(measured)
    table["network_ml"] += 2.0 * (cohort["site"] == "B")
    table.to_csv(measured, index=False)
    arguments = ["compare", *map(str, two), "--out", str(tmp_path / "out"), "--by", "site, age"]
    assert cli.main(arguments) == 0
    rows = pd.read_csv(tmp_path / "out" / "tables" / "paired.csv").set_index(["measure", "group"])
    errors = rows.loc["absolute error, ml"]
    assert errors.loc[["site: A", "site: B"], "difference"].tolist() == pytest.approx([-1, -3])
    assert errors.loc[["site: A", "site: B"], "n"].tolist() == [10, 10]  # of the 20 parenchymal cases
    scores = rows.loc["Dice"]
    assert scores.loc[["site: A", "site: B", "site: not stated", "age: 40 to 47"], "n"].tolist() == [12, 11, 1, 8]
    assert scores["difference"].tolist() == pytest.approx([0.02] * len(scores))
    with pytest.raises(ValueError, match=r"no column town in cohort\.csv of first to tell differences apart by"):
        compare(read_runs(list(two)), by=["town"])


def test_the_interval_of_a_difference_is_that_of_the_paired_cases(tmp_path):
    one, other = REFERENCE + RNG.normal(0, 2, 24), REFERENCE + RNG.normal(1, 3, 24)
    cases = CASES.assign(hemorrhage_type="parenchymal")
    folders = [write_run(tmp_path / name, v, cases=cases) for name, v in (("a", one), ("b", other))]
    row = compare(read_runs(folders), n_resamples=20000).paired.set_index("measure").loc["volume, ml"]
    outside = bootstrap((one - other,), np.mean, method="BCa", n_resamples=20000, rng=1).confidence_interval
    assert [row["difference_ci_low"], row["difference_ci_high"]] == pytest.approx(list(outside), abs=0.08)


def test_limits_are_those_of_bland_and_altman_1986(tmp_path):
    # Lancet 1986;1:307: Wright against mini peak flow meter, mean difference -2.1, SD 38.8, first readings.
    pefr = pd.read_csv("tests/data/pefr_1986.csv")
    cases = pd.DataFrame({"case_id": [str(i) for i in range(17)], "patient_id": [str(i) for i in range(17)]})
    cases = cases.assign(hemorrhage_type="parenchymal", reference_ml=pefr["mini1"])
    folders = [write_run(tmp_path / name, pefr["wright1"] + shift, cases=cases) for name, shift in (("a", 0), ("b", 1))]
    row = compare(read_runs(folders)).agreement.iloc[0]
    assert [row["n"], row["bias"], row["sd"]] == pytest.approx([17, -2.1, 38.8], abs=0.05)
    assert [row["loa_lower"], row["loa_upper"]] == pytest.approx([-78.1, 73.9], abs=0.05)


def test_errors_are_paired_by_volume_group_and_volumes_have_limits_of_the_runs(two):
    rows = compare(read_runs(list(two))).paired.query("measure == 'absolute error, ml'").set_index("group")
    known = REFERENCE[:20]
    sizes = [20, (known < 5).sum(), ((known >= 5) & (known <= 25)).sum(), (known > 25).sum()]
    wanted = dict(zip(("all", "<5 ml", "5-25 ml", ">25 ml"), sizes, strict=True))
    assert rows["n"].to_dict() == {name: n for name, n in wanted.items() if n}
    volume = compare(read_runs(list(two))).paired.query("measure == 'volume, ml'").iloc[0]
    assert [volume["loa_lower"], volume["loa_upper"]] == pytest.approx([-1.0, -1.0])  # a constant difference


def test_other_outlines_are_refused_with_case_and_volumes(two, tmp_path):
    changed = CASES.assign(reference_ml=CASES["reference_ml"] + np.where(CASES["case_id"] == "case-05", 0.5, 0))
    third = write_run(tmp_path / "third", REFERENCE, cases=changed)
    volume = REFERENCE[5]
    said = (
        rf"case case-05: the reference volume is {volume:.3f} ml in first and {volume + 0.5:.3f} ml in third \(1 of 24"
    )
    with pytest.raises(ValueError, match=said):
        compare(read_runs([two[0], third]))


def test_runs_without_a_shared_case_are_refused_with_counts(two, tmp_path):
    moved = CASES.assign(case_id="x-" + CASES["case_id"])
    third = write_run(tmp_path / "third", REFERENCE, cases=moved)
    with pytest.raises(
        ValueError, match=r"no case was measured in every run .*first and second share 24; first and third share 0"
    ):
        compare(read_runs([*two, third]))


def test_patients_may_have_other_pseudonyms_but_not_other_cases(two, tmp_path):
    renamed = CASES.assign(patient_id="q" + CASES["patient_id"])
    assert len(shared_cases(read_runs([two[0], write_run(tmp_path / "renamed", REFERENCE, cases=renamed)]))) == 24
    merged = CASES.assign(patient_id=["one", "one", *CASES["patient_id"][2:]])
    with pytest.raises(ValueError, match=r"cases case-00, case-01 are of one patient \(one\)"):
        shared_cases(read_runs([two[0], write_run(tmp_path / "merged", REFERENCE, cases=merged)]))


def test_a_case_without_a_prediction_leaves_the_comparison_and_is_counted(two, tmp_path):
    volumes = pd.Series(REFERENCE).where(CASES["case_id"] != "case-03")
    third = write_run(tmp_path / "third", volumes)
    found = compare(read_runs([two[0], third]))
    row = found.paired.set_index("measure").loc["volume, ml"]
    assert (row["n"], row["n_missing"]) == (19, 0)
    assert len(found.cases) == 23
    assert found.agreement["n"].tolist() == [19, 19]  # the first run too, so that both are of the same cases
    assert found.dice.empty  # the third run has no outlines
    html = write_comparison(found, tmp_path / "out").read_text()
    text = " ".join(check_page(html).text.split())
    assert "1 case without a volume in third left out." in text
    counts = re.findall(r"<td[^>]*>simulated</td>\s*<td[^>]*>(\d+)</td>\s*<td[^>]*>(\d+)</td>", html)
    assert counts == [("24", "23"), ("23", "23")]  # measured, shared by all
    assert "No overlap is compared" in text


def test_runs_that_cannot_be_read_are_named(two, tmp_path):
    (two[1] / "manifest.json").rename(tmp_path / "kept.json")
    with pytest.raises(ValueError, match=r"run second is unfinished: it has no manifest\.json"):
        read_runs(list(two))
    with pytest.raises(FileNotFoundError, match="nowhere: no run folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a run is given twice"):
        read_runs([two[0], two[0]])
    with pytest.raises(ValueError, match="1 run given, wanted at least two"):
        read_runs([two[0]])
    with pytest.raises(ValueError, match="run first has no abc2_ml; its volumes are reference_ml, network_ml"):
        shared_cases([read_run(two[0]), read_run(two[0], "again")], "abc2_ml")


def test_runs_of_the_same_name_are_told_apart(two, tmp_path):
    other = shutil.copytree(two[1], tmp_path / "elsewhere" / "first")
    assert [run.name for run in read_runs([two[0], other])] == ["first (1)", "first (2)"]


def test_the_page_says_what_differs_and_what_is_simulated(two, tmp_path):
    path = write_comparison(compare(read_runs(list(two))), tmp_path / "out")
    found = check_page(path.read_text())
    text = " ".join(found.text.split())
    assert "Network volumes of 2 runs compared (simulated)" in text
    assert "All runs are on simulated scans" in text
    assert "02_training.training_seed" in text
    assert "02_training.steps" not in text
    assert "first errs by 0.5 ml and second by 1.5 ml on average (n = 20), difference −1.0 (−1.0 to −1.0) ml" in text
    assert str(tmp_path) not in path.read_text()
    shown = pd.read_csv(tmp_path / "out" / "tables" / "paired.csv")
    assert shown.loc[shown["measure"] == "volume, ml", "difference"].tolist() == pytest.approx([-1.0])
    assert all((path.parent / link["href"]).is_file() for link in found.all("a"))


def test_a_comparison_replaces_itself_and_nothing_else(two, tmp_path):
    found = compare(read_runs(list(two)))
    write_comparison(found, tmp_path / "out")
    write_comparison(found, tmp_path / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.docx").write_text("years of work")
    with pytest.raises(FileExistsError, match="thesis is not empty and holds no comparison"):
        write_comparison(found, tmp_path / "thesis")


def test_the_command_compares_and_says_what_is_wrong(two, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--reports", str(tmp_path)]
    assert cli.main(["compare", "first", str(two[1]), *out]) == 0
    assert "2 runs, 24 shared cases" in capsys.readouterr().out
    assert cli.main(["compare", "first", "third", *out]) == 2
    assert "ich compare: third: no run folder" in capsys.readouterr().err


def test_p_values_are_those_of_wilcoxon_with_holms_correction_over_the_runs(tmp_path):
    seeds = np.random.default_rng(3)
    folders = [write_run(tmp_path / f"run{k}", REFERENCE + seeds.normal(0.3 * k, 1, 24)) for k in range(3)]
    found = compare(read_runs(folders))
    errors = found.paired[(found.paired["measure"] == "absolute error, ml") & (found.paired["group"] == "all")]
    off = [(pd.read_csv(f / "tables" / "measurements.csv")["network_ml"] - REFERENCE).abs()[:20] for f in folders]
    wanted = [wilcoxon(off[a], off[b]).pvalue for a, b in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(errors["p"], wanted, rtol=1e-9)
    np.testing.assert_allclose(errors["p_holm"], multipletests(wanted, method="holm")[1], rtol=1e-9)


def test_the_p_value_takes_patients_not_scans(tmp_path):
    cases = CASES.head(20).assign(patient_id=[f"p{i // 2}" for i in range(20)])
    shift = np.linspace(-1, 2, 20)
    folders = [write_run(tmp_path / "a", cases["reference_ml"], cases=cases),
               write_run(tmp_path / "b", cases["reference_ml"] + shift, cases=cases)]  # fmt: skip
    found = compare(read_runs(folders)).paired.set_index(["measure", "group"])
    assert found.loc[("volume, ml", "all"), "p"] == pytest.approx(wilcoxon(shift.reshape(10, 2).mean(axis=1)).pvalue)


def by_label(folder, predicted, dice):
    """A run whose 8 last cases have ventricular blood, 2 ml and more, beside the parenchymal."""
    write_run(folder, REFERENCE, np.full(24, 0.9))
    path = folder / "tables" / "metrics.csv"
    whole = pd.read_csv(path)
    label = whole.assign(label="ventricular", reference_ml=np.where(np.arange(24) < 16, 0.0, np.arange(24) - 14.0),
                         predicted_ml=predicted, dice=dice)  # fmt: skip
    pd.concat([whole, label]).to_csv(path, index=False)
    return folder


def test_volumes_and_dice_of_one_label_are_of_the_cases_whose_reference_has_it(tmp_path, capsys):
    truth = np.where(np.arange(24) < 16, 0.0, np.arange(24) - 14.0)
    first = by_label(tmp_path / "first", truth + 0.25, np.full(24, 0.8))
    second = by_label(tmp_path / "second", truth - 0.5, np.full(24, 0.7))
    found = compare(read_runs([first, second], "ventricular"))
    assert list(found.cases["case_id"]) == [f"case-{i:02}" for i in range(16, 24)]
    assert list(found.agreement["bias"]) == pytest.approx([0.25, -0.5])
    rows = found.paired.set_index(["measure", "group"])["difference"]
    assert rows["volume, ml", "all"] == pytest.approx(0.75)
    assert rows["Dice", "all"] == pytest.approx(0.1)
    assert cli.main(["compare", str(first), str(second), "--label", "ventricular", "--out", str(tmp_path / "c")]) == 0
    page = (tmp_path / "c" / "index.html").read_text()
    assert "ventricular blood of the cases whose reference has it" in page
    assert "the runs&#39; own reports compare other: first blood, second blood" in page


def test_a_label_that_cannot_be_compared_is_named(tmp_path):
    masks = write_run(tmp_path / "masks", REFERENCE)
    with pytest.raises(ValueError, match=r"run masks has no tables/metrics\.csv, so no volumes of single labels"):
        read_run(masks, label="ventricular")
    first, second = (by_label(tmp_path / name, REFERENCE, 0.5) for name in "ab")
    with pytest.raises(ValueError, match="run a: no reference outline has the label subarachnoid"):
        read_runs([first, second], "subarachnoid")
    with pytest.raises(ValueError, match="run a has no abc2_ml; its volumes are reference_ml, network_ml"):
        shared_cases(read_runs([first, second], "ventricular"), "abc2_ml")
