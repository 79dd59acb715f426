"""What a finished run gives out: pictures of three cases, documents for the manuscript, the first page and its PDF."""

from pathlib import Path

from ich.atomic import write_text
from ich.checklists import answered_items
from ich.front_page import checklists_html, index_html, is_simulated, own_name
from ich.manuscript import write_manuscript
from ich.pdf import print_pdf
from ich.print_tables import print_tables
from ich.provenance import describe_figures, describe_pages, describe_tables
from ich.tables import write_plain
from ich.three_cases import draw_three_cases


def write_report(run: Path, manifest: dict, predictions: Path | None = None) -> Path:
    """Write what the tables of a run are told in, and say what had to be left out; returns the first page.

    Parameters
    ----------
    manifest : of the run, finished or about to be; its lists of tables, figures and pages are brought up to date.
    predictions : folder of the masks that were tested, where they are not the run's own.
    """
    try:
        draw_three_cases(run, predictions)
    except (ValueError, OSError) as error:  # the numbers stand without pictures
        print(f"three cases are left out of the report: {error}")
    write_plain(answered_items(run, list(manifest["notebooks"])), run / "tables" / "checklists.csv")
    manifest["tables"] = describe_tables(run / "tables")
    manifest["figures"] = describe_figures(run / "figures")
    write_text(run / "html" / "checklists.html", checklists_html(run, manifest))
    shown = print_tables(run, is_simulated(run), own_name(manifest))
    write_manuscript(shown.values(), run / "tables")
    index, pdf = run / "html" / "index.html", run / "html" / "report.pdf"
    write_text(index, index_html(run, manifest, pdf=True))
    lacking = print_pdf(index, pdf)
    if lacking:
        print(f"report.pdf is left out: {lacking}")
        write_text(index, index_html(run, manifest))
    manifest["pages"] = describe_pages(run)
    return index
