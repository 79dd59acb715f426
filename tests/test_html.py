"""Pages are whole without a network: what a browser would fetch, what it shows, and what a reader finds."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ich.html import figure_data_uri, index_html, notebook_html, page

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements of a page; an element closed in the wrong order is an error."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(text):
    """A page that is complete, closed, and asks nobody for anything."""
    found = Page(text)
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "poster"):
            address = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//", address), address
    assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", text)
    assert "default-src 'none'" in found.all("meta")[1]["content"]
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == 1
    assert all("alt" in image for image in found.all("img"))
    identifiers = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    return found


@pytest.fixture
def notebook(tmp_path):
    """An executed notebook with an output of every kind."""
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/plain": "IntSlider(value=0)",
    }
    table = pd.DataFrame({"volume_ml": [1.5]}).to_html()
    styled = f"<style scoped>td {{ color: red }}</style>\n{table}"
    display = {"image/png": {"alt": "Difference against mean <volume>"}}
    cells = [
        new_markdown_cell("# 04 Agreement\n\n**Question.** How well?"),
        new_code_cell(
            "secret_name = 1",
            outputs=[new_output("display_data", {"image/png": PNG, "text/plain": "<Figure>"}, metadata=display)],
        ),
        new_code_cell("table", outputs=[new_output("execute_result", {"text/html": styled, "text/plain": "t"})]),
        new_code_cell(
            "slider",
            metadata={"tags": ["interactive"]},
            outputs=[new_output("display_data", {"text/plain": "only with a kernel"})],
        ),
        new_code_cell("w", outputs=[new_output("display_data", widget)]),
        new_code_cell("print(1)", outputs=[new_output("stream", name="stdout", text="33 cases\n")]),
        new_code_cell("a", outputs=[new_output("display_data", {"text/markdown": "**0.4 ml**", "text/plain": "x"})]),
    ]
    book = new_notebook(cells=cells)
    book.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(book, tmp_path / "04_agreement.ipynb")
    notebook_html(
        tmp_path / "04_agreement.ipynb",
        tmp_path / "html" / "04_agreement.html",
        [("Report", "index.html"), ("04_agreement", "04_agreement.html")],
    )
    return (tmp_path / "html" / "04_agreement.html").read_text()


def test_a_notebook_is_one_page_without_requests(notebook):
    found = check_page(notebook)
    assert found.all("script") == []
    assert "<title>04 Agreement</title>" in notebook


def test_a_notebook_keeps_outputs_and_leaves_out_what_needs_a_kernel(notebook):
    found = Page(notebook)
    assert found.all("img")[0] == {
        "src": f"data:image/png;base64,{PNG}",
        "alt": "Difference against mean <volume>",
    }
    assert "33 cases" in found.text
    assert "<strong>0.4 ml</strong>" in notebook
    assert "only with a kernel" not in notebook
    assert "IntSlider(value=0)" in notebook
    assert "<style scoped" not in notebook
    assert 'border="1"' not in notebook


def test_code_is_there_and_hidden_until_the_switch(notebook):
    found = Page(notebook)
    assert "secret_name" in found.text
    assert re.search(r"\.jp-CodeCell \.jp-Cell-inputWrapper[^{]*\{ display: none; \}", notebook)
    switch = [box for box in found.all("input") if box.get("id") == "show-code"]
    assert switch == [{"type": "checkbox", "id": "show-code"}]
    assert found.all("label")[0]["for"] == "show-code"


def test_navigation_marks_the_page_one_is_on(notebook):
    links = Page(notebook).all("a")
    assert links[:2] == [{"href": "index.html"}, {"href": "04_agreement.html", "aria-current": "page"}]


def test_a_page_escapes_its_title():
    text = page("<5 ml & more", "<h1>x</h1>")
    check_page(text)
    assert "<title>&lt;5 ml &amp; more</title>" in text


def test_a_figure_becomes_a_png():
    figure = Figure(figsize=(1, 1))
    figure.subplots()
    assert figure_data_uri(figure).startswith("data:image/png;base64,iVBOR")


MANIFEST = {
    "run": "demo",
    "title": "Hematoma volume",
    "started": "2026-01-01T00:00:00+00:00",
    "ended": "2026-01-01T00:05:00+00:00",
    "code": {"commit": "abc123", "dirty": True},
    "machine": {"python": "3.11.7", "device": "cpu"},
    "packages": {"numpy": "2.4.6"},
    "notebooks": {"04_agreement": {"parameters": {"margin_ml": 5.0, "label": "<b>"}}},
    "left_out": {"02_training": "there are masks and no scans"},
    "tables": {"error_by_group.csv": {"rows": 2, "sha256": "0"}},
}


@pytest.fixture
def run_dir(tmp_path):
    for folder in ("tables", "figures"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tables" / "error_by_group.csv").write_text(
        "volume_group,n,abc2_mean_ml,p\n<5,12,0.6789,0.00004\n>=25,9,,0.03456\n"
    )
    answer = {"question": "How well?", "answer": "Bias 0.4 ml.", "limits": ["n = 33."], "simulated": True}
    (tmp_path / "tables" / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "figures" / "bland_altman_simulated.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    captions = {"bland_altman": {"caption": "Limits & bias", "alt": "Bland-Altman plot"}}
    (tmp_path / "figures" / "captions.json").write_text(json.dumps(captions))
    return tmp_path


def test_the_index_answers_and_shows_the_way(run_dir):
    text = index_html(run_dir, MANIFEST)
    found = check_page(text)
    for said in (
        "How well?",
        "Bias 0.4 ml.",
        "n = 33.",
        "there are masks and no scans",
        "abc123 with uncommitted",
    ):
        assert said in found.text
    assert found.text.index("Bias 0.4 ml.") < found.text.index("Limits & bias")
    assert found.all("img")[0]["alt"] == "Bland-Altman plot"
    assert found.all("img")[0]["src"].startswith("data:image/svg+xml;base64,")
    addresses = [link["href"] for link in found.all("a")]
    assert "04_agreement.html" in addresses
    assert "../tables/error_by_group.csv" in addresses


def test_the_index_says_simulated_where_the_data_are(run_dir):
    found = Page(index_html(run_dir, MANIFEST))
    assert "Hematoma volume (simulated)" in found.text
    assert "Simulated data." in found.text
    answer = json.loads((run_dir / "tables" / "answer.json").read_text()) | {"simulated": False}
    (run_dir / "tables" / "answer.json").write_text(json.dumps(answer))
    assert "imulated" not in Page(index_html(run_dir, MANIFEST)).text


def test_numbers_in_tables_are_rounded_and_small_p_values_are_not_zero(run_dir):
    cells = re.findall(r"<td[^>]*>(.*?)</td>", index_html(run_dir, MANIFEST).split("<tbody>")[1])
    assert cells[:8] == ["&lt;5", "12", "0.68", "&lt;0.001", "&gt;=25", "9", "–", "0.035"]


def test_an_index_without_answer_or_figures_is_still_a_page(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "cohort.csv").write_text("case_id,simulated\n001,True\n")
    found = check_page(index_html(tmp_path, MANIFEST | {"left_out": {}}))
    assert "(simulated)" in found.text
    assert "Figures" not in found.text
