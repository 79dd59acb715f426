"""Pages are whole without a network: what a browser would fetch, what it shows, and what a reader finds."""

import re

import nbformat
import pandas as pd
import pytest
from made_page import Page, check_page
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ich.html import figure_data_uri, notebook_html, page

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


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
        new_markdown_cell("## Check", metadata={"tags": ["guard"]}),
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
    assert "Check" not in notebook
    assert "IntSlider(value=0)" not in notebook  # a widget without a kernel
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
