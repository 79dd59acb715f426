"""Self-contained HTML: notebooks and the frame of any page. No page makes a request."""

import base64
import html
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import nbformat
import pandas as pd
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from traitlets.config import Config

from ich.atomic import write_text
from ich.checklists import anchor
from ich.tables import heading

TEMPLATES = Path(__file__).with_name("templates")
# The browser itself refuses whatever would leave the page, should a notebook's output ask for it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:"
WIDGET = "application/vnd.jupyter.widget-view+json"
OUTPUTS = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
IMAGES = {".png": "image/png", ".svg": "image/svg+xml"}
SWITCH = '<input type="checkbox" id="show-code"><label class="show-code" for="show-code">Show code</label>\n'

Links = Sequence[tuple[str, str]]


def report_links(notebooks: Iterable[str]) -> Links:
    """The navigation of a run's pages: the first one, then its notebooks."""
    return [("Report", "index.html"), *((name, f"{name}.html") for name in notebooks)]


def page(
    title: str, body: str, links: Links = (), current: str = "", code_switch: bool = False, front: bool = False
) -> str:
    """A whole HTML document around `body`.

    Parameters
    ----------
    links : (text, address) of the navigation; the one whose address is `current` is marked.
    code_switch : offer to show the code cells of `body`.
    front : style of the first page of a report.
    """
    sheets = ("report.css", "front.css") if front else ("report.css",)
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in sheets)
    entries = "".join(_link(text, address, here=address == current) for text, address in links)
    navigation = f'<nav aria-label="Report"><ul>{entries}</ul></nav>\n' if entries else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{navigation}{SWITCH if code_switch else ""}<main>
{body}
</main>
</body>
</html>
"""


def notebook_html(path: Path, out: Path, links: Links = ()) -> None:
    """Write an executed notebook as one HTML file: code behind a switch, no `interactive` cells, nor `guard` ones,
    which say nothing of the run."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:  # without a kernel a widget is a line of code
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", {})]
    _without_markup(notebook)
    settings = Config()
    settings.NbConvertBase.display_data_priority = OUTPUTS
    settings.TagRemovePreprocessor.enabled = True
    settings.TagRemovePreprocessor.remove_cell_tags = {"interactive", "guard"}
    exporter = HTMLExporter(
        config=settings,
        template_name="report",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    # What pandas puts into each table: a style sheet that HTML no longer knows, and a border.
    body = re.sub(r"<style scoped[^>]*>.*?</style>", "", body, flags=re.DOTALL).replace('<table border="1" ', "<table ")
    body = _with_anchors(body)
    # A wide table scrolls by itself, by keyboard too.
    number = itertools.count(1)
    body = re.sub(
        r"<table",
        lambda _: f'<div class="scroll" role="region" tabindex="0" aria-label="Table {next(number)}"><table',
        body,
    ).replace("</table>", "</table></div>")
    title = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), path.stem)
    named = title.strip().splitlines()[0].lstrip("# ") if title.strip() else path.stem
    body += f"<footer><p>{html.escape(use_notice({}))}</p></footer>"
    write_text(out, page(named, body, links, out.name, code_switch=True))


def _without_markup(notebook: nbformat.NotebookNode) -> None:
    """Markdown that a cell has put out may quote a header or file name: what looks like a tag becomes text."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.get("data", {}):
                text = "".join(output["data"]["text/markdown"])
                output["data"]["text/markdown"] = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)


def _with_anchors(body: str) -> str:
    """Headings with the address that checklists link to; a heading that comes twice keeps its first."""
    seen: set[str] = set()

    def named(found: re.Match) -> str:
        key = anchor(html.unescape(re.sub(r"<[^>]+>", "", found.group(2))))
        if not key or key in seen or key == "show-code":
            return found.group(0)
        seen.add(key)
        return f'<h{found.group(1)} id="{key}">{found.group(2)}</h{found.group(1)}>'

    return re.sub(r"<h([23])>(.*?)</h\1>", named, body, flags=re.DOTALL)


def figure_data_uri(figure: Figure) -> str:
    """A figure as PNG at 150 dpi inside a data URI."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150, metadata={"Software": None})
    return data_uri(drawn.getvalue(), "image/png")


def use_notice(card: dict) -> str:
    """What numbers may be used for, and what the network of a settings.json (`card`, may be empty) was trained on."""
    said = ["Research use only: not a medical device, not for diagnosis or treatment."]
    if card.get("trained_on"):
        said.append(f"The network was trained on: {card['trained_on']}.")
    if card.get("not_tested"):
        said.append(f"It was not tested on: {card['not_tested']}.")
    return " ".join(said)


def _link(text: str, address: str, here: bool = False) -> str:
    marked = ' aria-current="page"' if here else ""
    return f'<li><a href="{html.escape(address)}"{marked}>{html.escape(text)}</a></li>'


def data_uri(content: bytes, kind: str) -> str:
    """Content inside an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _table(frame: pd.DataFrame, caption: str) -> str:
    """A table of texts as HTML."""
    head = "".join(f'<th scope="col">{html.escape(heading(name))}</th>' for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text) or '–'}</td>" for text in row) + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}"><table>'
        f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def provenance(manifest: dict) -> str:
    """Parameters, versions and machine, folded away."""
    rows = [
        (notebook, name, str(value))
        for notebook, record in manifest["notebooks"].items()
        for name, value in record["parameters"].items()
    ]
    parameters = _table(pd.DataFrame(rows, columns=["notebook", "parameter", "value"]), "Parameters")
    state = {True: " with uncommitted changes", False: "", None: ""}[manifest["code"]["dirty"]]
    facts = {
        "run": f"{manifest['run']}, {manifest['started']} to {manifest['ended']}",
        "code": f"{manifest['code']['commit'] or 'not in a repository'}{state}",
        **manifest["machine"],
        **manifest["packages"],
    }
    versions = _table(pd.DataFrame(list(facts.items()), columns=["what", "version"]), "Code, machine and packages")
    return f"<details><summary>Parameters and versions</summary>{parameters}{versions}</details>"
