"""The study runner on notebooks of three cells; each is named after the one thing it does."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from ich import study
from ich.notebook import NotebookFailed, chosen, declared
from ich.provenance import as_committed, describe_input
from ich.verify import verify_run

NOTEBOOKS = Path(__file__).parent / "notebooks"
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of fixture notebooks; the caller stands beside it."""
    shutil.copytree(NOTEBOOKS, tmp_path / "project" / "notebooks")
    (tmp_path / "project" / "notebooks" / "profiles").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "project"


def planned(project, notebooks, settings=(), name=None, reports=None, **profile):
    path = project / "notebooks" / "profiles" / "small.yaml"
    path.write_text(yaml.safe_dump({"title": "Small", "notebooks": notebooks, **profile}))
    return study.plan(
        study.read_profile("small", project / "notebooks"),
        list(settings),
        name,
        reports=reports or project / "reports",
        notebooks=project / "notebooks",
    )


def manifest(project, name="small"):
    return json.loads((project / "reports" / name / "manifest.json").read_text())


def runs(project, name="small"):
    return len(pd.read_csv(project / "reports" / name / "tables" / "runs.csv"))


def test_a_run_has_settings_notebooks_html_tables_and_a_manifest(project):
    index = study.run_study(planned(project, ["writes_a_table"], ["rows=4"], left_out={"02_training": "no scans"}))
    run = project / "reports" / "small"
    assert index == run / "html" / "index.html"
    assert (run / "html" / "writes_a_table.html").is_file()
    assert yaml.safe_load((run / "settings.yaml").read_text())["parameters"]["writes_a_table"]["rows"] == 4
    found = manifest(project)
    content = (run / "tables" / "cases.csv").read_bytes()
    assert content.splitlines()[1] == b"000,0.5,a"
    assert set(found["tables"]) == {"cases.csv", "checklists.csv"}
    assert found["tables"]["cases.csv"] == {"sha256": hashlib.sha256(content).hexdigest(), "rows": 4}
    assert found["notebooks"]["writes_a_table"]["parameters"] == {
        "run_dir": "../reports/small",
        "rows": 4,
        "share": 0.5,
        "strict": True,
        "label": "a",
        "seed": 7,
    }
    assert found["seeds"] == {"writes_a_table.seed": 7}
    assert found["left_out"] == {"02_training": "no scans"}
    assert found["packages"]["numpy"]
    assert found["machine"]["python"]
    assert not (run / "progress.json").exists()


def test_nothing_stored_tells_of_the_machine(project, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "001.nii").write_text("x")
    study.run_study(planned(project, ["reads_masks"], ["masks=masks"]))
    for path in (project / "reports" / "small").rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path.name
    notebook = nbformat.read(project / "reports" / "small" / "notebooks" / "reads_masks.ipynb", as_version=4)
    assert "papermill" not in notebook.metadata
    assert not any("execution" in cell.metadata or "papermill" in cell.metadata for cell in notebook.cells)
    assert notebook.cells[-1].outputs[0].text == "1 files\n"
    assert manifest(project)["inputs"]["masks"]["files"] == 1


def test_of_an_input_outside_the_project_only_the_name_is_stored(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("jane") / "hemseg"
    elsewhere.mkdir()
    study.run_study(planned(project, ["reads_masks"], [f"masks={elsewhere}"]))
    run = project / "reports" / "small"
    assert manifest(project)["notebooks"]["reads_masks"]["parameters"]["masks"] == "…/hemseg"
    assert '"…/hemseg"' in "".join(
        cell.source for cell in nbformat.read(run / "notebooks" / "reads_masks.ipynb", as_version=4).cells
    )
    for path in run.rglob("*"):
        assert path.is_dir() or b"jane" not in path.read_bytes(), path.name


def test_the_kernel_is_this_interpreter_whatever_the_kernelspec(project, monkeypatch):
    spec = project / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(project / "jupyter"))
    study.run_study(planned(project, ["names_its_interpreter"]))
    named = project / "reports" / "small" / "tables" / "interpreter.txt"
    assert named.read_text() == sys.executable


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rowz=4", r"no parameter is called 'rowz'; nearest: rows\. All: rows, share, strict, label, seed$"),
        ("writes_a_table.rowz=4", r"nearest: writes_a_table\.rows\b"),
        ("other.rows=4", "no parameter is called 'other.rows'"),
        ("rows=four", r"rows=four: wanted int \(the default is 3\)"),
        ("rows=4.5", "rows=4.5: wanted int"),
        ("share=half", "share=half: wanted float"),
        ("strict=1", "strict=1: wanted true or false"),
        ("rows", "--set rows: wanted key=value"),
        ("run_dir=x", "use --name and --reports"),
    ],
)
def test_a_wrong_setting_stops_before_anything_starts(project, setting, said):
    with pytest.raises(ValueError, match=said):
        planned(project, ["writes_a_table"], [setting])
    assert not (project / "reports").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("rows=5", 5), ("share=1", 1.0), ("strict=False", False), ("label=007", "007"), ("label=a=b", "a=b")],
)
def test_a_setting_takes_the_declared_type(project, text, value):
    found = planned(project, ["writes_a_table"], [text]).parameters["writes_a_table"][text.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)


def test_a_profile_value_of_the_wrong_type_is_refused(project):
    with pytest.raises(ValueError, match="rows: '4' is str, wanted int"):
        planned(project, ["writes_a_table"], parameters={"rows": "4"})
    with pytest.raises(ValueError, match="rows: True is bool, wanted int"):
        planned(project, ["writes_a_table"], parameters={"rows": True})


def test_a_key_goes_to_every_notebook_that_declares_it_and_a_prefix_to_one(project):
    both = ["writes_a_table", "counts_its_runs"]
    found = planned(project, both, ["label=b"]).parameters
    assert [found[name]["label"] for name in both] == ["b", "b"]
    found = planned(project, both, ["counts_its_runs.label=b"]).parameters
    assert [found[name]["label"] for name in both] == ["a", "b"]


def test_a_missing_path_stops_before_anything_starts(project):
    with pytest.raises(FileNotFoundError, match="masks=nowhere: no such file or folder"):
        planned(project, ["reads_masks"], ["masks=nowhere"])


def test_a_required_parameter_must_be_given(project):
    with pytest.raises(ValueError, match="profile small needs masks: give it with --set masks="):
        planned(project, ["reads_masks"], required=["masks"])


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("title: T\nnotebooks: [writes_a_table]\nparametres: {}", "'parametres'; nearest: parameters"),
        ("title: T\nnotebooks: writes_a_table", "notebooks is str, wanted list"),
        ("notebooks: [writes_a_table]", "title is missing"),
        ("title: [", "not YAML"),
    ],
)
def test_a_profile_with_a_mistake_is_refused(project, profile, said):
    path = project / "mine.yaml"
    path.write_text(profile)
    with pytest.raises(ValueError, match=said):
        study.read_profile(str(path), project / "notebooks")


def test_an_unknown_profile_or_notebook_is_named(project):
    with pytest.raises(FileNotFoundError, match=r"writes_table\.ipynb is not in"):
        planned(project, ["writes_table"])
    with pytest.raises(ValueError, match="no profile is called 'smal'; nearest: small"):
        study.read_profile("smal", project / "notebooks")


@pytest.mark.parametrize("name", ["../other", "a/b", ".", "..", ".hidden"])
def test_a_run_stays_inside_the_reports_folder(project, name):
    with pytest.raises(ValueError, match="wanted a folder name"):
        planned(project, ["writes_a_table"], name=name)


def test_an_existing_run_is_replaced_only_when_told(project):
    plan = planned(project, ["counts_its_runs"])
    study.run_study(plan)
    with pytest.raises(FileExistsError, match="run small exists and is finished; --overwrite replaces it"):
        study.run_study(plan)
    assert runs(project) == 1
    (project / "reports" / "small" / "figures" / "old.svg").write_text("")
    study.run_study(plan, overwrite=True)
    assert runs(project) == 1
    assert not (project / "reports" / "small" / "figures" / "old.svg").exists()


def test_a_run_is_kept_until_the_first_notebook_of_the_next_is_done(project):
    run = project / "reports" / "small"
    before = run.with_name(".small.before")
    study.run_study(planned(project, ["writes_a_table"], ["rows=5"]))
    for _ in range(2):  # what failed is no run to keep
        with pytest.raises(NotebookFailed):
            study.run_study(planned(project, ["fails_when_told"]), overwrite=True)
        with pytest.raises(NotebookFailed):
            study.run_study(planned(project, ["fails_when_told"]), resume=True)
        assert len(pd.read_csv(before / "tables" / "cases.csv")) == 5
    study.run_study(planned(project, ["writes_a_table"], ["rows=3"]), overwrite=True)
    assert len(pd.read_csv(run / "tables" / "cases.csv")) == 3
    assert not before.exists()


def test_overwrite_loses_nothing_that_is_not_the_runs_own(project):
    run = project / "reports" / "small"
    study.run_study(planned(project, ["writes_a_table"]))
    (run / "mydata").mkdir()
    with pytest.raises(FileExistsError, match="small holds mydata, none of a run's: move it away first"):
        study.run_study(planned(project, ["writes_a_table"]), overwrite=True)
    (run / "mydata").rename(run / "data")
    with pytest.raises(FileExistsError, match="masks lies in small, which --overwrite removes"):
        study.run_study(planned(project, ["reads_masks"], [f"masks={run / 'data'}"]), overwrite=True)
    (run / "tables" / "readers.csv").write_text("case_id\n")
    with pytest.raises(FileExistsError, match=r"tables/readers\.csv, which readers have measured"):
        study.run_study(planned(project, ["writes_a_table"]), overwrite=True)
    assert (run / "manifest.json").is_file()


def test_a_notebook_whose_input_has_changed_runs_again(project, capsys):
    masks = project / "masks"
    masks.mkdir()
    (masks / "a.nii").write_text("one")
    study.run_study(planned(project, ["reads_masks", "counts_its_runs"], [f"masks={masks}"]))
    first = manifest(project)["inputs"]["masks"]
    study.run_study(planned(project, ["reads_masks", "counts_its_runs"], [f"masks={masks}"]), resume=True)
    assert runs(project) == 1
    (masks / "a.nii").write_text("other")
    study.run_study(planned(project, ["reads_masks", "counts_its_runs"], [f"masks={masks}"]), resume=True)
    assert "reads_masks: masks changed; it runs again, and all after it" in capsys.readouterr().out
    assert runs(project) == 2
    assert manifest(project)["inputs"]["masks"] != first


@pytest.fixture
def agreement(project):
    """A finished run whose notebooks are named like those of a study: 01 before the readings, 04 and 05 after."""
    for name in ("01_cohort", "04_agreement", "05_case"):
        shutil.copy(NOTEBOOKS / "counts_its_runs.ipynb", project / "notebooks" / f"{name}.ipynb")
    plan = planned(project, ["01_cohort", "04_agreement", "05_case"])
    study.run_study(plan)
    return plan


def test_new_changed_and_removed_readings_run_the_agreement_again(project, agreement, capsys):
    path = agreement.run / "tables" / "readers.csv"
    count = runs(project)
    for text in ("case_id,reader\n1,a\n", "case_id,reader\n1,a\n2,a\n", None):
        path.unlink() if text is None else path.write_text(text)
        assert any("tables/readers.csv" in wrong for wrong in verify_run(agreement.run).wrong)
        study.run_study(agreement, resume=True)
        said = capsys.readouterr().out
        assert "04_agreement: tables/readers.csv changed; it runs again, and all after it" in said
        assert "already done: 01_cohort\n" in said
        count += 2
        assert runs(project) == count
        assert not any("tables/readers.csv:" in wrong for wrong in verify_run(agreement.run).wrong)
        study.run_study(agreement, resume=True)
        assert runs(project) == count


def test_readings_of_a_run_whose_record_does_not_tell_them_are_taken_in_once(project, agreement, capsys):
    """As versions before wrote it: the table may have come before 04 or after."""
    (agreement.run / "tables" / "readers.csv").write_text("case_id,reader\n1,a\n")
    for again in (2, 0):
        before = runs(project)
        study.run_study(agreement, resume=True)
        assert runs(project) == before + again


def test_overwrite_removes_no_folder_that_is_not_a_run(project):
    folder = project / "reports" / "small"
    folder.mkdir(parents=True)
    (folder / "thesis.docx").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a run"):
        study.run_study(planned(project, ["writes_a_table"]), overwrite=True)
    assert (folder / "thesis.docx").read_text() == "years of work"


def test_a_failing_notebook_is_named_with_cell_and_error_and_resume_goes_on_from_there(project, capsys):
    notebooks = ["counts_its_runs", "fails_when_told"]
    with pytest.raises(NotebookFailed) as failure:
        study.run_study(planned(project, notebooks))
    run = project / "reports" / "small"
    assert "fails_when_told failed in cell 3 of 3 (raise): ValueError: case 017: mask shape" in str(failure.value)
    assert '----> 8     raise ValueError("case 017' in str(failure.value)
    assert str(run / "notebooks" / "fails_when_told.ipynb") in str(failure.value)
    assert (run / "notebooks" / "fails_when_told.ipynb").is_file()
    assert not (run / "manifest.json").exists()
    study.run_study(planned(project, notebooks, ["fail=false"]), resume=True)
    assert "already done: counts_its_runs" in capsys.readouterr().out
    assert runs(project) == 1
    assert list(manifest(project)["notebooks"]) == notebooks


def test_a_study_stops_after_a_notebook_that_leaves_itself_out(project):
    page = study.run_study(
        planned(project, ["counts_its_runs", "leaves_itself_out", "writes_a_table"]), until="leaves_itself_out"
    )
    assert page.name == "counts_its_runs.html"
    assert not (page.parent / "writes_a_table.html").exists()
    assert not (page.parents[1] / "manifest.json").exists()


def test_a_notebook_that_leaves_itself_out_is_named_with_its_reason_and_the_study_goes_on(project, capsys):
    index = study.run_study(planned(project, ["counts_its_runs", "leaves_itself_out", "writes_a_table"]))
    assert "leaves_itself_out is left out: 2 cases, wanted at least 3" in capsys.readouterr().out
    found = manifest(project)
    assert list(found["notebooks"]) == ["counts_its_runs", "writes_a_table"]
    assert found["left_out"] == {"leaves_itself_out": "2 cases, wanted at least 3"}
    assert "2 cases, wanted at least 3" in index.read_text()
    assert not any("leaves_itself_out.html" in page.read_text() for page in index.parent.glob("*.html"))


def test_resume_runs_a_changed_notebook_again_and_all_after_it(project, capsys):
    notebooks = ["writes_a_table", "counts_its_runs"]
    study.run_study(planned(project, notebooks))
    study.run_study(planned(project, notebooks), resume=True)
    assert runs(project) == 1
    source = project / "notebooks" / "writes_a_table.ipynb"
    source.write_text(source.read_text().replace("case_id,share,label", "case_id,part,label"))
    study.run_study(planned(project, notebooks), resume=True)
    assert "writes_a_table: notebook or parameters changed; it runs again" in capsys.readouterr().out
    assert runs(project) == 2
    study.run_study(planned(project, notebooks, ["rows=1"]), resume=True)
    assert runs(project) == 3
    assert manifest(project)["tables"]["cases.csv"]["rows"] == 1


def test_of_an_error_that_the_package_raised_the_message_is_told_alone(project):
    (project / "cases.csv").write_text("patient\n1\n")
    with pytest.raises(NotebookFailed) as failure:
        study.run_study(planned(project, ["fails_when_told"], [f"table={project / 'cases.csv'}"]))
    assert failure.value.reason == "ValueError: cases.csv: no column 'case_id'; found patient"
    assert "--->" not in str(failure.value)


def test_a_training_takes_the_parameters_of_its_run(project):
    """A path is kept from the folder of notebooks, or not at all where it lies elsewhere."""
    notebook = Path(__file__).resolve().parents[1] / "notebooks" / "02_training.ipynb"
    stored = {"02_training": {"steps": 77, "start_from": "../ich/weights", "run_dir": "x"}}
    (project / "settings.yaml").write_text(yaml.safe_dump({"parameters": stored}))
    found = chosen(notebook, ["batch_size=3"], project)
    assert (found["steps"], found["batch_size"]) == (77, 3)
    assert Path(found["start_from"]) == notebook.parents[1] / "ich" / "weights"
    stored["02_training"]["start_from"] = "…/weights"
    (project / "settings.yaml").write_text(yaml.safe_dump({"parameters": stored}))
    assert chosen(notebook, ["start_from=w"], project)["start_from"] == "w"
    with pytest.raises(ValueError, match="start_from: project keeps no more of its path than …/weights"):
        chosen(notebook, [], project)
    assert chosen(notebook, [], project / "nowhere")["steps"] == 1000  # of a folder without settings, the defaults


def test_a_dead_kernel_is_said_to_be_dead(project):
    with pytest.raises(NotebookFailed, match=r"kills_its_kernel failed in cell 3 of 3 \(kill\): the kernel died"):
        study.run_study(planned(project, ["kills_its_kernel"]))


def test_a_cell_that_takes_too_long_is_stopped(project):
    with pytest.raises(NotebookFailed, match=r"sleeps failed .*\(sleep\): the cell took longer than 1 s"):
        study.run_study(planned(project, ["sleeps"], timeout_s=1))


def test_too_little_space_is_said_before_the_start(project):
    with pytest.raises(OSError, match=r"run small: \d+ MB free, wanted 1000000000000"):
        study.run_study(planned(project, ["writes_a_table"], needs_mb=10**12))
    assert not (project / "reports" / "small" / "settings.yaml").exists()


def test_a_run_folder_that_cannot_be_made_is_said_before_the_start(project):
    (project / "reports").mkdir()
    (project / "reports" / "small").write_text("a file, not a folder")
    with pytest.raises(OSError, match="run folder small cannot be written"):
        study.run_study(planned(project, ["writes_a_table"]))


def test_two_studies_cannot_share_a_run_folder(project, held_by_another):
    lock = project / "reports" / ".small.lock"
    with held_by_another(lock), pytest.raises(OSError, match="run small is in use by process 4711"):
        study.run_study(planned(project, ["writes_a_table"]))
    # The lock file is still there; its process is not.
    study.run_study(planned(project, ["writes_a_table"]))
    assert lock.read_text() == str(os.getpid())


def test_a_folder_input_is_hashed_by_names_and_contents(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b" / "c.txt").write_text("two")
    # $ (printf 'a.txt '; printf one | sha256sum | cut -c-64;
    #    printf 'b/c.txt '; printf two | sha256sum | cut -c-64) | sha256sum
    expected = "71def11094ffecf1894f95db1e6ae92358fe203bc096e5fca6eec68a34b56973"
    assert describe_input(tmp_path) == {"sha256": expected, "files": 2}


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_a_folder_is_as_committed_until_something_in_it_changes(tmp_path):
    """README quotes the committed demo, not one that was made again on another processor."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "a.csv").write_text("1")
    assert not as_committed(folder)  # no repository
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@example.org commit -qm one"):
        subprocess.run(["git", "-C", str(tmp_path), *words.split()], check=True)
    assert as_committed(folder)
    (tmp_path / "beside").write_text("3")
    assert as_committed(folder)
    (folder / "a.csv").write_text("2")
    assert not as_committed(folder)
    (folder / "a.csv").write_text("1")
    assert as_committed(folder)
    (folder / "b.csv").write_text("1")
    assert not as_committed(folder)
    assert not as_committed(tmp_path / "missing")


def test_a_study_stops_after_the_notebook_that_is_named(project, capsys):
    notebooks = ["counts_its_runs", "fails_when_told"]
    page = study.run_study(planned(project, notebooks), until="counts_its_runs")
    assert page == project / "reports" / "small" / "html" / "counts_its_runs.html"
    assert not (project / "reports" / "small" / "manifest.json").is_file()
    study.run_study(planned(project, notebooks, ["fail=false"]), resume=True)
    assert "already done: counts_its_runs" in capsys.readouterr().out
    assert runs(project) == 1
    assert list(manifest(project)["notebooks"]) == notebooks


def test_a_path_of_a_profile_is_from_the_notebooks(project):
    (project / "masks").mkdir()
    made = planned(project, ["reads_masks"], parameters={"masks": "../masks"})
    assert made.inputs["masks"] == project / "masks"


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "notebooks" / "profiles").glob("*.yaml")))
def test_the_profiles_fit_the_notebooks(profile, tmp_path):
    found = study.read_profile(profile, ROOT / "notebooks")
    (tmp_path / "masks").mkdir()
    needed = [name.split("|")[-1] for name in found.required]
    settings = [f"{name}={'dicom' if name == 'source' else tmp_path / 'masks'}" for name in needed]
    study.plan(found, settings, reports=tmp_path, notebooks=ROOT / "notebooks")
    assert set(found.notebooks).isdisjoint(found.left_out)


@pytest.mark.parametrize("name", ["masks", "external"])
@pytest.mark.parametrize("given", [["masks=HERE"], ["manifest=HERE"], ["source=manifest", "root=HERE"]])
def test_masks_come_from_a_folder_a_manifest_or_a_source(name, given, tmp_path):
    found = study.read_profile(name, ROOT / "notebooks")
    given = [*given, "predictions=HERE"] if name == "external" else given
    settings = [text.replace("HERE", str(tmp_path)) for text in given]
    study.plan(found, settings, reports=tmp_path, notebooks=ROOT / "notebooks")
    with pytest.raises(ValueError, match=f"profile {name} needs masks or source or manifest"):
        study.plan(found, [], reports=tmp_path, notebooks=ROOT / "notebooks")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_takes_its_run_folder(path):
    assert declared(path)["run_dir"].kind == "str"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_parameter_has_a_meaning(path):
    assert [name for name, parameter in declared(path).items() if not parameter.meaning] == []
