"""The four tables of a report as LaTeX (booktabs) and Word files, for the manuscript."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from docx import Document
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt

from ich.atomic import write_bytes, write_text
from ich.print_tables import PrintTable

DATE_IN_ZIP = (1980, 1, 1, 0, 0, 0)  # the same table gives the same bytes
SIZES = ((80, "normalsize"), (115, "footnotesize"), (125, "scriptsize"), (10_000, "footnotesize"))  # letters a row
UPRIGHT = 125  # letters a row; wider tables are turned
TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "±": r"$\pm$",
    "°": r"$^{\circ}$",
    "∞": r"$\infty$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "\N{EN DASH}": "--",
    "\N{EM SPACE}": r"\quad{}",
    "’": "'",
}


def write_manuscript(shown: Iterable[PrintTable], folder: Path) -> list[Path]:
    """Write each table as <name>.tex and <name>.docx into `folder`; returns the files."""
    files = []
    for table in shown:
        tex, word = folder / f"{table.name}.tex", folder / f"{table.name}.docx"
        write_text(tex, latex(table))
        write_bytes(word, docx(table))
        files += [tex, word]
    return files


def latex(table: PrintTable) -> str:
    """A table environment for `\\input`; it needs the package booktabs, a table that is too wide rotating as well."""
    columns = "l" * table.worded + "r" * (len(table.header) - table.worded)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(table.header), r"\midrule"]
    for at, row in enumerate(table.rows):
        lines += [r"\addlinespace"] if at and at in table.groups else []
        lines.append(_row(row))
    lines += [r"\bottomrule", r"\end{tabular}"]
    # Set as small as the text of its widest cells needs: about 90 letters of normal type fill a page of 16 cm.
    letters = sum(max(len(row[at]) for row in (table.header, *table.rows)) + 2 for at in range(len(table.header)))
    size = next(name for most, name in SIZES if letters <= most)
    place, packages = ("table", "booktabs") if letters <= UPRIGHT else ("sidewaystable", "booktabs,rotating")
    body = f"\\{size}\\setlength{{\\tabcolsep}}{{3pt}}\n" + "\n".join(lines)
    return (
        f"% \\usepackage{{{packages}}}\n"
        f"\\begin{{{place}}}\n\\centering\n\\caption{{{_tex(table.title)}}}\n\\label{{tab:{table.name}}}\n{body}\n\n"
        f"\\smallskip\n\\begin{{minipage}}{{\\textwidth}}\\footnotesize {_tex(table.notes)}\\end{{minipage}}\n"
        f"\\end{{{place}}}\n"
    )


def docx(table: PrintTable) -> bytes:
    """A Word document with title, table (three rules, as journals want it) and notes."""
    document = Document()
    document.core_properties.author = ""
    document.core_properties.title = table.title
    document.styles["Normal"].font.name = "Times New Roman"
    document.styles["Normal"].font.size = Pt(10)
    title = document.add_paragraph()
    title.add_run(table.title).bold = True
    title.paragraph_format.keep_with_next = True
    grid = document.add_table(rows=1 + len(table.rows), cols=len(table.header))
    for at, texts in enumerate((table.header, *table.rows)):
        cells = grid.rows[at].cells
        for column, text in enumerate(texts):
            paragraph = cells[column].paragraphs[0]
            paragraph.add_run(text).bold = at == 0
            paragraph.paragraph_format.space_after = Pt(0)
            if column >= table.worded:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
            if at == 0:
                _rule(cells[column], "top")
                _rule(cells[column], "bottom")
            elif at == len(table.rows):
                _rule(cells[column], "bottom")
    head = grid.rows[0]._tr.get_or_add_trPr()
    head.append(OxmlElement("w:tblHeader"))  # repeated on the next page, read out as a heading
    notes = document.add_paragraph()
    notes.add_run(table.notes).font.size = Pt(8.5)
    written = io.BytesIO()
    document.save(written)
    return _without_dates(written.getvalue())


def _row(cells: Iterable[str]) -> str:
    return " & ".join(_tex(cell) for cell in cells) + r" \\"


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def _rule(cell, side: str) -> None:
    """A line above or below a cell."""
    properties = cell._tc.get_or_add_tcPr()
    borders = properties.find(qn("w:tcBorders"))
    if borders is None:
        borders = OxmlElement("w:tcBorders")
        properties.append(borders)
    line = OxmlElement(f"w:{side}")
    for name, value in (("val", "single"), ("sz", "8"), ("space", "0"), ("color", "000000")):
        line.set(qn(f"w:{name}"), value)
    borders.append(line)


def _without_dates(content: bytes) -> bytes:
    """The same document with every file of the archive dated alike."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in sorted(old.namelist(), key=lambda each: (each != "[Content_Types].xml", each)):
            new.writestr(zipfile.ZipInfo(name, DATE_IN_ZIP), old.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()
