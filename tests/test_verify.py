"""`ich verify` and `ich archive` on copies of the committed demo run; each damage is named."""

import hashlib
import json
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from ich import archive
from ich.cli import main
from ich.provenance import describe_pages
from ich.verify import verify, verify_run

DEMO = Path(__file__).resolve().parents[1] / "reports" / "demo"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "demo"
    for part in ("tables", "notebooks", "figures"):
        shutil.copytree(DEMO / part, folder / part)
    for name in ("manifest.json", "settings.yaml"):
        shutil.copy(DEMO / name, folder / name)
    return folder


@pytest.fixture
def zipped(run, tmp_path):
    archive.write_archive(run, tmp_path / "demo.zip")
    return tmp_path / "demo.zip"


def test_the_committed_demo_is_as_its_manifest_says(capsys):
    assert main(["verify", str(DEMO)]) == 0
    said = capsys.readouterr().out
    assert "demo: as its manifest says" in said
    assert "WRONG" not in said


def test_what_a_copy_does_without_is_said_and_no_failure(run):
    found = verify_run(run)
    assert found.wrong == []
    assert found.absent == ["data/ (scans and masks)", "predictions/ (predicted masks)", "model/ (weights)",
                            "html/ (pages)"]  # fmt: skip


def test_a_run_without_a_test_set_may_have_measured_every_case(run):
    """As the profile `masks` does; with the notebook of the test set the same table is wrong."""
    splits = (run / "tables" / "splits.csv").read_text().splitlines()
    trained = next(row.split(",")[0] for row in splits if ",train" in row)
    path = run / "tables" / "measurements.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, rows[1].replace(rows[1].split(",")[0], trained, 1)]) + "\n")
    said = f"case {trained} is no test case of splits.csv"
    assert any(said in text for text in verify_run(run).wrong)
    (run / "notebooks" / "03_test_set.ipynb").unlink()
    assert not any(said in text for text in verify_run(run).wrong)


def one_digit(run):
    path = run / "tables" / "metrics.csv"
    path.write_text(path.read_text().replace("0.9", "0.8", 1))


def one_row(run):
    path = run / "tables" / "quality.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def strange_split(run):
    path = run / "tables" / "splits.csv"
    path.write_text(path.read_text().replace(",train", ",testing", 1))


def broken_cell(run):
    path = run / "notebooks" / "01_cohort.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]
    path.write_text(json.dumps(notebook))


def other_seed(run):
    path = run / "settings.yaml"
    path.write_text(path.read_text().replace("cohort_seed: 2019", "cohort_seed: 2020"))


def other_figure(run):
    path = run / "figures" / "mountain_simulated.svg"
    path.write_text(path.read_text().replace("</svg>", "<!-- another --></svg>"))


def other_limit(run):
    path = run / "figures" / "bland_altman_simulated.svg"
    path.write_text(path.read_text().replace("lower limit", "lower line"))


def other_point(run):
    path = run / "figures" / "scatter_simulated.svg"
    text = path.read_text()
    x = text.index("&quot;x&quot;: [" if "&quot;x&quot;" in text else '"x": [')
    first = text.index("[", x) + 1
    path.write_text(text[:first] + "1" + text[first:])


def described_by(text):
    def damage(run):
        path = run / "figures" / "scatter_simulated.svg"
        path.write_text(f"<svg><dc:description>{text}</dc:description></svg>")

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (one_digit, "tables/metrics.csv: sha256 is "),
        (one_row, "tables/quality.csv: rows is "),
        (strange_split, "splits.csv: splits: case phantom-"),
        (lambda run: (run / "tables" / "planning.csv").unlink(), "tables/planning.csv is missing"),
        (lambda run: (run / "tables" / "new.csv").write_text("a\n1\n"), "tables/new.csv is not in the manifest"),
        (lambda run: (run / "notebooks" / "02_training.ipynb").unlink(), "notebooks/02_training.ipynb is missing"),
        (lambda run: (run / "notebooks" / "02_training.ipynb").write_text("{}"), "02_training.ipynb is no notebook"),
        (broken_cell, "notebooks/01_cohort.ipynb holds an error: ValueError"),
        (other_seed, "settings.yaml: parameters of 01_cohort differ"),
        (lambda run: (run / "figures" / "mountain_simulated.svg").unlink(), "figures/mountain.svg is missing"),
        (other_figure, "figures/mountain_simulated.svg is not the one that the manifest states"),
        (other_limit, "figures/bland_altman_simulated.svg: network: agreement_summary.csv has lower limit"),
        (other_point, "figures/scatter_simulated.svg: the points of network are not those of the table"),
        (described_by("[" * 100_000), "figures cannot be held against the tables"),
        (described_by('[{"y_label": 1}]'), "figures cannot be held against the tables"),
        (described_by('[{"y_label": "network volume, ml", "title": 1, "x": [1], "y": []}]'), "figures cannot be held"),
        (described_by("{}"), "its description is no list of panels"),
        (lambda run: (run / "html").mkdir(), "html/index.html is missing"),
        (lambda run: (run / "data").mkdir(), "case phantom-0000: image data/"),
        (lambda run: (run / "model").mkdir(), "model cannot be checked (FileNotFoundError"),
    ],
)
def test_each_damage_is_named(run, damage, said, capsys):
    damage(run)
    assert any(said in text for text in verify_run(run).wrong)
    assert main(["verify", str(run)]) == 1
    assert said in capsys.readouterr().out


def test_an_edited_page_is_named(run):
    (run / "html").mkdir()
    names = ["index", *json.loads((run / "manifest.json").read_text())["notebooks"]]
    for name in names:
        (run / "html" / f"{name}.html").write_text("differs by +1.6 ml")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"pages": describe_pages(run)}))
    assert verify_run(run).wrong == []
    (run / "html" / "index.html").write_text("differs by +0.1 ml")
    table = run / "tables" / "agreement.docx"
    table.write_bytes(table.read_bytes() + b" ")
    said = "is not the one that the manifest states"
    assert verify_run(run).wrong == [f"html/index.html {said}", f"tables/agreement.docx {said}"]


def test_a_test_patient_in_training_is_named(run):
    path = run / "tables" / "splits.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    test = next(row for row in rows if row[2] == "test")
    train = next(row for row in rows if row[2] == "train")
    train[1] = test[1]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    assert f"splits.csv: patient {test[1]} stands in several splits" in verify_run(run).wrong


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"run": 1}', "[" * 100_000,
     '{"run":"a","notebooks":{"../x":{}},"tables":{},"packages":{},"code":{}}',
     '{"run":"a","notebooks":{},"tables":{"../../etc/passwd":{"sha256":"","rows":1}},"packages":{},"code":{}}'],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(run, content, capsys):
    (run / "manifest.json").write_text(content)
    assert main(["verify", str(run)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_an_unfinished_run_is_neither_verified_nor_archived(run, tmp_path, capsys):
    (run / "manifest.json").unlink()
    assert main(["verify", str(run)]) == 2
    assert main(["archive", str(run), "--out", str(tmp_path / "a.zip")]) == 2
    assert "not finished" in capsys.readouterr().err
    assert not (tmp_path / "a.zip").exists()


def test_an_archive_holds_the_run_and_no_scans(run, tmp_path, capsys):
    for private in ("data", "predictions", "model"):
        (run / private).mkdir()
        (run / private / "secret").write_text("x")
    archive.write_archive(run, tmp_path / "a.zip", "https://creativecommons.org/licenses/by/4.0/")
    with zipfile.ZipFile(tmp_path / "a.zip") as found:
        names = found.namelist()
        crate = json.loads(found.read(archive.METADATA))
    assert not [name for name in names if name.split("/")[0] in ("data", "predictions", "model")]
    assert {"manifest.json", "settings.yaml", "tables/cohort.csv", "notebooks/04_agreement.ipynb"} <= set(names)
    assert main(["verify", str(tmp_path / "a.zip")]) == 0
    assert "a.zip: as its manifest says" in capsys.readouterr().out
    # RO-Crate 1.1: the metadata describe themselves, and a root data set with name, description, date and licence.
    graph = {each["@id"]: each for each in crate["@graph"]}
    assert graph[archive.METADATA]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert graph[archive.METADATA]["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license", "hasPart"} <= set(graph["./"])
    assert {part["@id"] for part in graph["./"]["hasPart"]} == set(names) - {archive.METADATA}
    table = graph["tables/cohort.csv"]
    content = (run / "tables" / "cohort.csv").read_bytes()
    assert table["sha256"] == hashlib.sha256(content).hexdigest()
    assert table["contentSize"] == str(len(content))
    assert "All cases are simulated" in graph["./"]["description"]


def test_an_archive_calls_cases_simulated_only_where_the_run_does(run, tmp_path):
    """A table of measured volumes (07) has no cohort and names none of the sources that 01 takes."""
    (run / "tables" / "cohort.csv").unlink()
    (run / "tables" / "answer.json").write_text(json.dumps({"simulated": False}))
    archive.write_archive(run, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as found:
        assert "simulated" not in json.loads(found.read(archive.METADATA))["@graph"][1]["description"]


def test_the_same_run_gives_the_same_archive(run, tmp_path):
    archive.write_archive(run, tmp_path / "a.zip")
    archive.write_archive(run, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_changed_figure_in_an_archive_is_named(zipped, tmp_path):
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(tmp_path / "new.zip", "w") as new:
        for info in old.infolist():
            changed = info.filename == "figures/mountain_simulated.svg"
            new.writestr(info.filename, b"<svg/>" if changed else old.read(info))
        new.writestr("figures/more.svg", "<svg/>")
    wrong = verify(tmp_path / "new.zip").wrong
    assert "figures/mountain_simulated.svg: SHA-256 differs from ro-crate-metadata.json" in wrong
    assert "figures/more.svg is in the archive and not in ro-crate-metadata.json" in wrong


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/outside", "a/../../outside", "..\\outside", "C:\\outside", "C:/outside"]
)
def test_a_member_that_leads_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(ValueError, match="leads out of the archive"):
        verify(tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_link_in_an_archive_is_refused(tmp_path):
    info = zipfile.ZipInfo("tables")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(info, "/etc")
    with pytest.raises(ValueError, match="'tables' is a link"):
        verify(tmp_path / "a.zip")


def test_a_zip_bomb_is_refused_by_its_list(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("tables/a.csv", bytes(2**21))
    with pytest.raises(ValueError, match="2097152 bytes unpacked, wanted at most 1048576"):
        verify(tmp_path / "a.zip")
    monkeypatch.setattr(archive, "MAX_MEMBERS", 0)
    with pytest.raises(ValueError, match="holds 1 files, wanted at most 0"):
        verify(tmp_path / "a.zip")


def test_a_member_that_states_less_than_it_holds_writes_no_more_than_it_states(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("tables/a.csv", bytes(2**21))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")  # uncompressed size in the list
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "tables" / "a.csv").stat().st_size <= 1000


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("manifest.json", "{}")
        made.writestr("MANIFEST.json", "{}")
    with pytest.raises(ValueError, match="there twice"):
        verify(tmp_path / "a.zip")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip" * 100])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip: not a zip"):
        verify(tmp_path / "a.zip")


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("readme.txt", "x")
    with pytest.raises(ValueError, match="not the archive of a run"):
        verify(tmp_path / "a.zip")
