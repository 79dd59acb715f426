"""The pages of a report in a real browser: no request, no error, no overflow, nothing that axe or the W3C minds.

Skipped, with the reason, where Chromium, Java or npm's packages (axe-core, vnu-jar) cannot be had.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from ich.atomic import write_text
from ich.checklists import answered_items
from ich.cli import main
from ich.compare import compare, read_runs
from ich.compare_page import write_comparison
from ich.front_page import checklists_html, index_html
from ich.tables import write_plain

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "tests" / "screenshots"
DEMO = ROOT / "reports" / "demo"
SIZES = {"wide": (1440, "light"), "phone": (390, "light"), "dark": (1440, "dark"), "dark phone": (390, "dark")}


def from_npm(folder: Path, name: str) -> Path:
    """Files of a package of the npm registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(["npm", "pack", name], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        pytest.skip(f"npm does not give {name}")
    shutil.unpack_archive(archives[0], folder, filter="data")
    return folder / "package"


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """The script of axe-core 4."""
    return (from_npm(tmp_path_factory.mktemp("axe"), "axe-core@4") / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session", params=["index", "checklists", "compare", "case"])
def page_file(request, tmp_path_factory) -> Path:
    """First page, checklists of the committed demo run, its comparison with a copy that measures 3 % more; a case."""
    folder = tmp_path_factory.mktemp("html")
    manifest = json.loads((DEMO / "manifest.json").read_text())
    if request.param == "index":
        write_text(folder / "index.html", index_html(DEMO, manifest))
        return folder / "index.html"
    if request.param == "case":
        assert main(["phantom", "--n", "1", "--out", str(folder / "made"), "--size", "128", "--jobs", "1"]) == 0
        assert main(["segment", str(folder / "made" / "images" / "phantom-0000.nii.gz"), "--out", str(folder)]) == 0
        return folder / "case.html"
    if request.param == "checklists":
        shutil.copytree(DEMO / "tables", folder / "tables")
        write_plain(answered_items(folder, list(manifest["notebooks"])), folder / "tables" / "checklists.csv")
        write_text(folder / "checklists.html", checklists_html(folder, manifest))
        return folder / "checklists.html"
    other = shutil.copytree(
        DEMO, folder / "more", ignore=shutil.ignore_patterns("figures", "notebooks", "data", "html")
    )
    measured = pd.read_csv(other / "tables" / "measurements.csv", dtype={"case_id": str, "patient_id": str})
    measured["network_ml"] *= 1.03
    measured.to_csv(other / "tables" / "measurements.csv", index=False)
    return write_comparison(compare(read_runs([DEMO, other])), folder / "compared")


@pytest.mark.parametrize(("width", "scheme"), SIZES.values(), ids=SIZES)
def test_the_page_fits_loads_at_once_and_asks_nobody(chromium, page_file, width, scheme, request):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_file.as_uri())
    assert [address for address in asked if not address.startswith("data:")] == [page_file.as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page_file.stat().st_size < 2_000_000  # loads at once
    SHOTS.mkdir(exist_ok=True)
    shown = request.node.callspec.params["page_file"]
    page.screenshot(path=SHOTS / f"{shown} {width} {scheme}.png", full_page=True)
    context.close()


@pytest.mark.parametrize(("width", "scheme"), SIZES.values(), ids=SIZES)
def test_axe_finds_nothing_serious(chromium, axe, page_file, width, scheme):
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )  # the page forbids foreign scripts
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    serious = [
        f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html'][:200]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(found["passes"]) > 20
    context.close()


def test_a_narrow_page_prints_on_few_sheets(chromium, page_file):
    page = chromium.new_page()
    page.goto(page_file.as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.count(b"/Type /Page\n") <= 6
    page.close()


def test_the_w3c_checker_finds_no_error(page_file, tmp_path):
    if shutil.which("java") is None:
        pytest.skip("no Java for the W3C's checker")
    jar = next(from_npm(tmp_path, "vnu-jar").rglob("vnu.jar"))
    done = subprocess.run(
        ["java", "-jar", jar, "--errors-only", "--format", "json", page_file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stderr)["messages"] == []
