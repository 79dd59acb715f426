"""JupyterLab in a real browser, as an analyst uses it: every notebook runs, the caliper writes readings.

Skipped, with the reason, where Chromium cannot be had. Screenshots are left in tests/screenshots.
"""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from ich import tables
from ich.grid import Grid
from ich.scan import read_mask, read_scan

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "tests" / "screenshots"
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("0*.ipynb"))
# The demo's parameters, made small: what is tried is the way through the browser.
SMALL = {
    "n_cases: int = 150": "n_cases: int = 16", "image_size: int = 256": "image_size: int = 64",
    "steps: int = 1000": "steps: int = 40", "validate_every: int = 250": "validate_every: int = 20",
    "network_size: int = 128": "network_size: int = 64", "pixel_mm: float = 1.7": "pixel_mm: float = 3.4",
    "n_resamples: int = 2000": "n_resamples: int = 200", 'reader: str = \\"\\"': 'reader: str = \\"R1\\"',
}  # fmt: skip
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = [...panel.content.model.cells].filter(cell => cell.type === 'code');
  return {
    path: panel.context.path,
    kernel: panel.sessionContext.session?.kernel?.status ?? 'none',
    waiting: cells.filter(cell => cell.executionCount === null && cell.sharedModel.source.trim()).length,
    errors: cells.flatMap(cell => cell.outputs.toJSON()).filter(o => o.output_type === 'error').map(o => o.evalue),
  };
}"""


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """A copy of the notebooks with small parameters."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "notebooks").mkdir()
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    missing = set(SMALL)
    for name in NOTEBOOKS:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        for before, after in SMALL.items():
            missing -= {before} if before in text else set()
            text = text.replace(before, after)
        (folder / "notebooks" / f"{name}.ipynb").write_text(text, encoding="utf-8")
    assert missing == set()
    return folder


@pytest.fixture(scope="module")
def lab(book, tmp_path_factory):
    """Address of a JupyterLab of its own."""
    home, port = tmp_path_factory.mktemp("jupyter"), free_port()
    news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind) for kind in ("CONFIG", "DATA", "RUNTIME")} | {
        f"JUPYTERLAB_{kind}_DIR": str(home / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"),
        *("--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={book}"),
        "--LabApp.expose_app_in_browser=True",
    ]
    with (home / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **folders}, stdout=log, stderr=subprocess.STDOUT)
        address = f"http://localhost:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (home / "log.txt").read_text()[-2000:]
                time.sleep(0.25)
        yield address
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture(scope="module")
def page(chromium, lab):
    """A tab; what it asked for elsewhere and the errors it told are kept in `page.heard`."""
    SHOTS.mkdir(exist_ok=True)
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    tab = context.new_page()
    tab.heard = []
    tab.on("request", lambda r: tab.heard.append(r.url) if not r.url.startswith((lab, "data:", "blob:")) else None)
    tab.on("console", lambda said: tab.heard.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: tab.heard.append(str(error)))
    yield tab
    context.close()


def run_all(page, lab: str, name: str) -> dict:
    """Open a notebook, choose Run All Cells from the menu, wait until it has run."""
    page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook", timeout=60_000)
    page.wait_for_function(f"() => ({STATE})().kernel === 'idle'", timeout=60_000)
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    done = f"() => {{ const s = ({STATE})(); return s.errors.length || (s.kernel === 'idle' && !s.waiting); }}"
    page.wait_for_function(done, timeout=240_000, polling=500)
    page.screenshot(path=SHOTS / f"{name}.png")
    return page.evaluate(STATE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all_finishes(page, lab, book, name):
    """Half a minute each at most: a small study is simulated, trained, tested and compared on the way."""
    state = run_all(page, lab, name)
    assert state == {"path": f"notebooks/{name}.ipynb", "kernel": "idle", "waiting": 0, "errors": []}
    assert page.heard == []


@pytest.fixture(scope="module")
def session(page, lab, book):
    """The caliper of 06_reader after Run All, with what it shows."""
    assert run_all(page, lab, "06_reader")["errors"] == []
    viewer = page.locator(".ich-reader").last
    viewer.scroll_into_view_if_needed()
    viewer.locator("canvas").wait_for()
    return viewer


@pytest.mark.slow
def test_caliper_measures_what_is_drawn_and_writes_it(session, page, book):
    """Needs the runs above: a quarter of a minute. The picture is 640 pixels wide and shows the scan's whole width."""
    out = book / "reports" / "demo" / "tables" / "readers.csv"
    out.unlink(missing_ok=True)
    heading = page.locator("text=/Case \\d+ of \\d+/").first.inner_text()
    assert "phantom" not in heading  # blinded
    canvas = session.locator("canvas")
    frame = canvas.bounding_box()

    def drag(start, end, *keys):
        page.mouse.move(frame["x"] + start[0], frame["y"] + start[1])
        page.mouse.down()
        for key in keys:
            page.keyboard.down(key)
        page.mouse.move(frame["x"] + end[0], frame["y"] + end[1], steps=6)
        page.mouse.up()
        for key in keys:
            page.keyboard.up(key)

    canvas.click(position={"x": 4, "y": 4})
    where = session.locator(".where")
    first = int(re.search(r"slice (\d+)", where.inner_text()).group(1))
    page.keyboard.press("a")
    drag((200, 300), (400, 300))
    page.keyboard.press("b")
    drag((300, 200), (330, 320), "Shift")  # upright on A: 120 pixels long
    page.keyboard.press("ArrowUp")
    assert where.inner_text().startswith(f"slice {first + 1} ")
    page.keyboard.press("w")
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"() => document.body.innerText.includes('slice {first + 2} of')")
    page.keyboard.press("w")
    page.keyboard.press("w")
    page.keyboard.press("j")
    assert where.inner_text().startswith(f"slice {first} ")
    readout = session.locator(".readout")
    page.wait_for_function("() => document.body.innerText.includes('at 90°')")
    page.screenshot(path=SHOTS / "caliper.png")
    page.keyboard.press("s")
    session.locator(".message", has_text="saved: reading 1").wait_for()
    row = tables.read(out).iloc[0]
    case = tables.read(book / "reports" / "demo" / "tables" / "cohort.csv").set_index("case_id").loc[row["case_id"]]
    grid = read_scan(book / "reports" / "demo" / case["image"]).grid
    mm = grid.spacing_mm[0] * grid.shape[0] / frame["width"]  # of a pixel of the screen
    weights = grid.slice_weights_mm[first - 1 : first + 2] @ [1, 1, 0.5]
    assert row["a_mm"] == pytest.approx(200 * mm, rel=0.01)
    assert row["b_mm"] == pytest.approx(120 * mm, rel=0.01)
    assert row["c_mm"] == pytest.approx(weights)
    assert row["abc2_ml"] == pytest.approx(200 * mm * 120 * mm * weights / 2000, rel=0.02)
    assert row["angle_deg"] == pytest.approx(90, abs=0.1)
    assert (row["reader"], row["reading"], bool(row["blinded"])) == ("R1", 1, True)
    assert f"ABC/2 {row['abc2_ml']:.1f} ml" in readout.inner_text()


@pytest.mark.slow
def test_an_end_can_be_moved_and_a_second_reading_is_another_row(session, page, book):
    """Needs the reading above."""
    out = book / "reports" / "demo" / "tables" / "readers.csv"
    before = tables.read(out)
    frame = session.locator("canvas").bounding_box()
    page.mouse.move(frame["x"] + 400, frame["y"] + 300)
    page.mouse.down()
    page.mouse.move(frame["x"] + 360, frame["y"] + 330, steps=4)
    page.mouse.up()
    page.keyboard.press("s")
    session.locator(".message", has_text="saved: reading 2").wait_for()
    after = tables.read(out)
    assert len(after) == len(before) + 1
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    length = math.hypot(160, 30) / 200 * before["a_mm"].iloc[-1]
    assert after["a_mm"].iloc[-1] == pytest.approx(length, rel=0.01)


@pytest.mark.slow
def test_windows_planes_and_the_next_case(session, page):
    """Needs the session above."""
    canvas = session.locator("canvas")
    pictures = [canvas.evaluate("c => c.toDataURL()")]
    for key in ("5", "1", "p", "p", "p", "z"):
        page.keyboard.press(key)
        pictures.append(canvas.evaluate("c => c.toDataURL()"))
    assert pictures[1] != pictures[0]  # bone
    assert pictures[2] == pictures[0]
    assert pictures[5] == pictures[0]  # round the three planes
    assert len({pictures[n] for n in (0, 1, 3, 4, 6)}) == 5
    heading = page.locator("text=/Case \\d+ of \\d+/").first.inner_text()
    page.get_by_role("button", name="next case").click()
    page.wait_for_function(f"() => !document.body.innerText.includes({json.dumps(heading)})")
    page.locator(".ich-reader .readout", has_text="Draw A and B").wait_for()
    assert page.heard == []


@pytest.mark.slow
def test_outlines_of_all_sources_are_shown_to_who_is_not_blinded(page, lab, book):
    """Opens 06_reader once more, without a reader."""
    path = book / "notebooks" / "06_reader.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('reader: str = \\"R1\\"', 'reader: str = \\"\\"'))
    assert run_all(page, lab, "06_reader")["errors"] == []
    viewer = page.locator(".ich-reader").first
    viewer.scroll_into_view_if_needed()
    shown = [made.inner_text() for made in viewer.locator("button.source").all()]
    assert shown[0] == "reference"
    assert "second reader" in shown
    run = book / "reports" / "demo"
    cohort, parts = tables.read(run / "tables" / "cohort.csv"), tables.read(run / "tables" / "splits.csv")
    test = set(parts[parts["split"] == "test"]["case_id"])
    kind = cohort["hemorrhage_type"] == "parenchymal"
    case = cohort[cohort["case_id"].isin(test) & kind].sort_values("case_id").iloc[0]
    labels, grid = read_mask(run / case["reference_mask"])
    assert isinstance(grid, Grid)
    index = int((labels > 0).sum(axis=(0, 1)).argmax())
    assert viewer.locator(".where").inner_text() == f"slice {index + 1} of {labels.shape[2]}"
    canvas = viewer.locator("canvas")
    with_lines = canvas.evaluate("c => c.toDataURL()")
    canvas.click(position={"x": 4, "y": 4})
    page.keyboard.press("o")
    assert canvas.evaluate("c => c.toDataURL()") != with_lines
    page.keyboard.press("o")
    assert canvas.evaluate("c => c.toDataURL()") == with_lines
    page.screenshot(path=SHOTS / "viewer.png")
