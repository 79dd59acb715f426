"""Every item of the checklists is there, points at a section that exists, and is open where nothing answers it."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from made_page import check_page

from ich.checklists import ANSWERED, AUTHORS, CHECKLISTS, OPEN, PARTLY, anchor, answered_items, claim_data
from ich.front_page import checklists_html, index_html
from ich.html import notebook_html

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "reports" / "demo"
NOTEBOOKS = ["01_cohort", "02_training", "03_test_set", "04_agreement"]
ITEMS = [item for checklist in CHECKLISTS for item in checklist.items]


@pytest.fixture
def demo(tmp_path):
    """The tables of the committed demo run."""
    shutil.copytree(DEMO / "tables", tmp_path / "demo" / "tables")
    return tmp_path / "demo"


def test_what_the_cohort_knows_is_answered_and_the_rest_is_left_to_the_authors():
    cohort = pd.DataFrame(
        {
            "case_id": ["a", "b", "c"],
            "included": [True, True, False],
            "source": "BHSD",
            "site": ["site-1", "site-2", None],
            "second_mask": ["x", None, None],
        }
    )
    splits = pd.DataFrame({"case_id": ["a", "b"], "split": ["train", "test"]})
    table = claim_data(cohort, splits, "site", 4).set_index("item")
    # CLAIM 2024: 7 to 13 data, 14 to 18 reference standard, 19 to 21 partitions and size, 35 and 36 cases.
    assert table.index.tolist() == [f"CLAIM {n}" for n in (*range(7, 22), 35, 36)]
    assert table.loc["CLAIM 7", "answer"] == "BHSD; 2 sites named"
    assert table.loc["CLAIM 10", "answer"] == "1 of 3 excluded, each with its reason"
    assert table.loc["CLAIM 18", "answer"].startswith("second outline of 1 case")
    assert table.loc["CLAIM 19", "answer"] == "rule site, seed 4: 1 train, 1 test"
    assert not table.loc[table["answer"] == AUTHORS, "answered"].any()
    told = table[~table["answered"] & (table["answer"] != AUTHORS)]
    assert told["answer"].str.contains("the authors' to state").all()  # answered in part, in another notebook
    assert not table.loc["CLAIM 16", "answered"]
    alone = claim_data(cohort.drop(columns="second_mask"), splits, "site", 4).set_index("item")
    assert not alone.loc["CLAIM 18", "answered"]


def test_splits_that_the_data_give_are_said_to_be_given():
    cohort = pd.DataFrame({"case_id": ["a", "b"], "included": True, "source": "nnU-Net", "split": ["train", "test"]})
    table = claim_data(cohort, cohort[["case_id", "split"]], "stratified", 1).set_index("item")
    assert table.loc["CLAIM 19", "answer"] == "given by the data: 1 train, 1 test"


def test_patients_that_nobody_stated_are_no_level_of_the_splits(demo):
    cohort = pd.DataFrame({"case_id": ["a", "b"], "included": True, "source": "folder masks"})
    splits = cohort[["case_id"]].assign(split=["train", "test"])
    table = claim_data(cohort, splits, "stratified", 1, patients_stated=False)
    said = "patients are not stated: each scan counts as one"
    assert table.set_index("item").loc["CLAIM 20", ["answered", "answer"]].tolist() == [False, said]
    table.to_csv(demo / "tables" / "claim_data.csv", index=False)
    items = answered_items(demo, NOTEBOOKS).set_index(["checklist", "item"])
    assert items.loc[("CLAIM 2024", 20), ["status", "answer"]].tolist() == [PARTLY, said]
    assert items.loc[("CLAIM 2024", 19), "status"] == ANSWERED
    assert items.loc[("CLAIM 2024", 16), ["status", "answer"]].tolist() == [OPEN, AUTHORS]


def test_the_lists_are_as_long_as_their_sources():
    # Tejani 2024: 44 items; Kottner 2011: 15; Gerke 2020, table 2: 16.
    assert [len(checklist.items) for checklist in CHECKLISTS] == [44, 15, 16]
    for checklist in CHECKLISTS:
        assert [item.number for item in checklist.items] == list(range(1, len(checklist.items) + 1))


@pytest.mark.parametrize("item", [item for item in ITEMS if item.page != "index" and item.answer], ids=str)
def test_the_section_of_an_item_is_a_heading_of_its_notebook(item):
    notebook = nbformat.read(ROOT / "notebooks" / f"{item.page}.ipynb", as_version=4)
    markdown = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert item.heading in re.findall(r"^##+ (.+)$", markdown, re.MULTILINE)


def test_links_reach_the_headings_of_the_pages(demo, tmp_path):
    manifest = json.loads((DEMO / "manifest.json").read_text())
    pages = {"index": index_html(demo, manifest)}
    for name in NOTEBOOKS:
        notebook_html(DEMO / "notebooks" / f"{name}.ipynb", tmp_path / f"{name}.html")
        pages[name] = (tmp_path / f"{name}.html").read_text()
    for place in answered_items(demo, NOTEBOOKS)["place"]:
        page, _, key = place.partition(".html#")
        assert not place or f'id="{key}"' in pages[page], place


def test_an_item_is_open_where_nothing_answers_it(demo):
    items = answered_items(demo, NOTEBOOKS).set_index(["checklist", "item"])
    assert items.loc[("CLAIM 2024", 19), "status"] == ANSWERED
    assert "seed 1" in items.loc[("CLAIM 2024", 19), "answer"]
    assert items.loc[("CLAIM 2024", 13), "status"] == PARTLY
    assert items.loc[("CLAIM 2024", 44), ["status", "answer", "place"]].tolist() == [OPEN, AUTHORS, ""]
    without = answered_items(demo, ["01_cohort", "04_agreement"]).set_index(["checklist", "item"])
    assert without.loc[("CLAIM 2024", 25), "answer"] == f"not in this run; {AUTHORS}"
    assert without.loc[("Bland-Altman", 9), "status"] == ANSWERED
    assert items.loc[("CLAIM 2024", 32), "status"] == ANSWERED
    (demo / "tables" / "training.csv").unlink()  # as where the network, or the masks, were made elsewhere
    assert answered_items(demo, NOTEBOOKS).set_index(["checklist", "item"]).loc[("CLAIM 2024", 32), "status"] == OPEN
    (demo / "tables" / "dice_by_type.csv").unlink()
    assert answered_items(demo, NOTEBOOKS).set_index(["checklist", "item"]).loc[("CLAIM 2024", 37), "status"] == OPEN


def test_the_page_shows_every_item_with_its_status(demo):
    manifest = json.loads((DEMO / "manifest.json").read_text())
    items = answered_items(demo, NOTEBOOKS)
    items.to_csv(demo / "tables" / "checklists.csv", index=False)
    text = checklists_html(demo, manifest)
    check_page(text)
    assert len(re.findall(r"<tr><td class=\"number\">", text)) == len(items) == 75
    open_ = int((items.query("checklist == 'GRRAS'")["status"] == OPEN).sum())
    assert f"{open_} open of 15 items" in text
    assert 'href="checklists.html#grras"' in index_html(demo, manifest)


def test_a_heading_becomes_an_address():
    assert anchor("Limits that follow the volume") == "limits-that-follow-the-volume"
    assert anchor(" What ABC/2 measured? ") == "what-abc-2-measured"
