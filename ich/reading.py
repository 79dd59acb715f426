"""A reader's session in JupyterLab: ABC/2 of case after case with the caliper, kept in readers.csv."""

import html
from pathlib import Path

import ipywidgets
import pandas as pd

from ich import caliper, tables
from ich.grid import Grid, Scan, ScanError
from ich.scan import check_same_grid, read_mask, read_scan
from ich.viewer import Viewer, view

SOURCES = {"reference": "reference_mask", "network": "prediction", "second reader": "second_mask"}
UNDRAWN = "Draw A and B on the slice with the largest area, then weigh the other slices."


def outlines(case: pd.Series, folder: Path, scan: Scan) -> tuple[dict, list[str]]:
    """Masks of a case by source, and what is to say of those that cannot be shown.

    Parameters
    ----------
    case : row with reference_mask, prediction and second_mask, each a path from `folder`, empty or absent.
    """
    found, problems = {}, []
    for name, column in SOURCES.items():
        path = case.get(column)
        if not isinstance(path, str):
            continue
        try:
            labels, grid = read_mask(folder / path)
            check_same_grid(str(case["case_id"]), scan.grid, grid)
            found[name] = labels
        except (ScanError, OSError) as error:
            problems.append(f"{name}: {error}")
    return found, problems


def view_case(case: pd.Series, folder: Path) -> Viewer:
    """A case of a run with all its outlines: a row of cohort.csv, with the column `prediction` if there is one."""
    scan = read_scan(folder / str(case["image"]))
    found, problems = outlines(case, folder, scan)
    shown = view(scan, found)
    shown.message = "; ".join(problems)
    return shown


class Session:
    """Cases one after the other: a viewer with the caliper, and buttons to go on.

    A blinded session shows them in random order, another for each reader, without outlines, without their
    names, and nothing of a reference leaves the kernel. It goes on where the reader stopped; who has read all cases
    reads them again, which gives the intra-reader agreement.

    Parameters
    ----------
    cases : rows with case_id, image and, for sessions that are not blinded, masks; paths from `folder`.
    reader : name or code of who reads. out : readers.csv.

    Attributes
    ----------
    box : what the notebook shows. viewer : that of the current case, None where its scan cannot be read.
    """

    def __init__(self, cases: pd.DataFrame, folder: Path, out: Path, reader: str, blinded: bool = True):
        rows = cases[cases["image"].notna()]
        if rows.empty:
            raise ValueError("no case has a scan to read")
        if not reader.strip():
            raise ValueError("who reads? set `reader` to a name or code")
        self.cases = {str(row["case_id"]): row for _, row in rows.iterrows()}
        self.folder, self.out, self.reader, self.blinded = Path(folder), Path(out), reader.strip(), blinded
        self.order = caliper.reading_order(self.cases, self.reader) if blinded else list(self.cases)
        times = self._times_read()
        least = min(times.values())
        self.position = next(n for n, case_id in enumerate(self.order) if times[case_id] == least)
        self.viewer: Viewer | None = None
        self._heading, self._stage = ipywidgets.HTML(), ipywidgets.VBox()
        back, on = (ipywidgets.Button(description=text) for text in ("previous case", "next case"))
        back.on_click(lambda _: self.go(self.position - 1))
        on.on_click(lambda _: self.go(self.position + 1))
        self.box = ipywidgets.VBox([self._heading, self._stage, ipywidgets.HBox([back, on])])
        self.go(self.position)

    def _times_read(self) -> dict[str, int]:
        times = dict.fromkeys(self.order, 0)
        if self.out.is_file():
            read = tables.read(self.out, "readers")
            for case_id, count in read[read["reader"] == self.reader]["case_id"].value_counts().items():
                if case_id in times:
                    times[str(case_id)] = int(count)
        return times

    @property
    def case_id(self) -> str:
        """The case on show."""
        return self.order[self.position]

    def go(self, position: int) -> None:
        """Show the case at this place of the order."""
        self.position = position % len(self.order)
        times = self._times_read()
        done = sum(count > 0 for count in times.values())
        name = "" if self.blinded else f" {html.escape(self.case_id)},"
        again = f", read {times[self.case_id]} times" if times[self.case_id] else ""
        self._heading.value = (
            f"<b>Case {self.position + 1} of {len(self.order)}</b>,{name} reader {html.escape(self.reader)}{again}; "
            f"{done} of {len(self.order)} cases read"
        )
        case = self.cases[self.case_id]
        try:
            scan = read_scan(self.folder / str(case["image"]))
        except (ScanError, OSError) as error:
            reason = str(error).replace(str(self.folder / str(case["image"])), "the scan")
            self.viewer = None
            self._stage.children = (ipywidgets.HTML(f"This case cannot be read: {html.escape(reason)}"),)
            return
        shown, problems = ({}, []) if self.blinded else outlines(case, self.folder, scan)
        # A new widget for each scan: its voxels come with its making, which no limit on the rate of messages touches.
        self.viewer = view(scan, shown, caliper=True)
        self.viewer.readout, self.viewer.message = UNDRAWN, "; ".join(problems)
        grid = scan.grid
        self.viewer.observe(lambda change: self._measure(change["owner"], grid), "marks")
        self.viewer.on_msg(lambda viewer, content, _: self._answer(viewer, content, grid))
        self._stage.children = (self.viewer,)

    def _reading(self, marks: dict, grid: Grid) -> caliper.Reading | None:
        if len(marks.get("a", ())) != 2 or len(marks.get("b", ())) != 2:
            return None
        a, b = ([(float(i), float(j)) for i, j in marks[name]] for name in "ab")
        weights = {int(k): float(weight) for k, weight in marks["weights"].items()}
        return caliper.read_by(
            grid, self.case_id, self.reader, index_slice=int(marks["index"]), a=(a[0], a[1]), b=(b[0], b[1]),
            weights=weights, blinded=self.blinded,
        )  # fmt: skip

    def _measure(self, viewer: Viewer, grid: Grid) -> None:
        try:
            found = self._reading(viewer.marks, grid)
        except ValueError as error:
            viewer.readout = str(error)
            return
        viewer.readout = UNDRAWN if found is None else found.text()

    def _answer(self, viewer: Viewer, content: dict, grid: Grid) -> None:
        if content.get("do") != "save":
            return
        try:
            found = self._reading(content["marks"], grid)
            if found is None:
                viewer.message = "not saved: A and B are not both drawn"
                return
            if found.a_mm == 0 or found.b_mm == 0:
                viewer.message = "not saved: A or B has no length"
                return
            table = caliper.append(found, self.out)
        except (ValueError, OSError) as error:  # TimeoutError is an OSError
            viewer.message = f"not saved: {error}"
            return
        number = table["reading"].iloc[-1]
        viewer.message = f"saved: reading {number} of this case, {found.abc2_ml:.1f} ml, {found.time}"
