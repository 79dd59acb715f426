"""Faults of the machine, each caused here: what FAULTS.md says of them holds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ich import cohort, splits, tables
from ich.cli import main
from ich.verify import verify_run

ROOT = Path(__file__).resolve().parents[1]
ICH = [sys.executable, "-m", "ich.cli"]


def allowed(*options):
    """Whether this machine lets a test have name spaces of its own, with what `options` add."""
    tool = shutil.which("unshare")
    return bool(tool) and subprocess.run([tool, *options, "true"], capture_output=True, check=False).returncode == 0


offline = pytest.mark.skipif(not allowed("-rn"), reason="unshare -rn is not allowed here: the network stays connected")
mounting = pytest.mark.skipif(not allowed("-rm"), reason="unshare -rm is not allowed here: no disk can be mounted")


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "tests" / "notebooks", tmp_path / "notebooks")
    (tmp_path / "notebooks" / "profiles").mkdir()
    text = "title: A slow one\nnotebooks: [counts_its_runs, sleeps]\nneeds_mb: 0\n"
    (tmp_path / "notebooks" / "profiles" / "slow.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(*arguments):
    return main(["study", "slow", "--notebooks", "notebooks", "--reports", "reports", *arguments])


def test_a_study_killed_at_once_goes_on_where_it_was(project):
    command = [*ICH, "study", "slow", "--notebooks", "notebooks", "--reports", "reports"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[2/2] sleeps starts"):
                break
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    run = project / "reports" / "slow"
    assert not (run / "manifest.json").exists()
    assert list(json.loads((run / "progress.json").read_text())) == ["counts_its_runs"]
    assert study("--resume", "--set", "seconds=0") == 0
    assert len(pd.read_csv(run / "tables" / "runs.csv")) == 1  # the first notebook did not run again
    assert verify_run(run).wrong == []
    assert not [path.name for path in run.rglob("*") if path.name.endswith((".tmp", ".part"))]


@pytest.mark.slow
def test_phantoms_killed_at_random_are_the_same_when_made_again(tmp_path):
    """Three calls, one killed, in each of which two processes load the anatomy."""

    def command(out):
        return [*ICH, "phantom", "--n", "4", "--out", str(out), "--size", "64", "--jobs", "2"]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    with subprocess.Popen(
        command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while not list((tmp_path / "killed").glob("masks/*.gz")) and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    for name in files:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    left = [path.name for path in (tmp_path / "killed").rglob("*.tmp")]
    assert len(left) <= 4  # of the two that were being written, to be overwritten or removed


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Four simulated scans, and a network of one layer for them."""
    folder = tmp_path_factory.mktemp("heads")
    assert main(["phantom", "--n", "4", "--out", str(folder), "--size", "64", "--jobs", "1"]) == 0
    return folder / "images"


@pytest.mark.slow
def test_a_batch_that_is_killed_goes_on_with_what_is_left(heads, tmp_path):
    """Loads the shipped weights three times: some seconds each."""
    out = tmp_path / "out"
    command = [*ICH, "segment", str(heads), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (out / "summary.csv").is_file() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    before = pd.read_csv(out / "summary.csv")
    assert 1 <= len(before) < 4
    first = out / "case-001" / "mask.nii.gz"
    made = first.stat().st_mtime_ns
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    after = pd.read_csv(out / "summary.csv")
    assert len(after) == 4
    assert first.stat().st_mtime_ns == made  # not done again
    pd.testing.assert_frame_equal(after.head(len(before)), before, check_dtype=False)
    first.write_bytes(first.read_bytes()[:-40])  # damaged since
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert first.stat().st_mtime_ns != made
    pd.testing.assert_frame_equal(pd.read_csv(out / "summary.csv"), after)
    other = subprocess.run([*ICH, "segment", str(heads / "phantom-0000.nii.gz"), str(heads / "phantom-0001.nii.gz"),
                            "--out", str(out), "--resume"], capture_output=True, text=True, check=False)  # fmt: skip
    assert other.returncode == 2
    assert "key.csv lists other scans" in other.stderr


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run folder as 01_cohort leaves it: ten simulated cases of 64 pixels."""
    run = tmp_path_factory.mktemp("small") / "run"
    table = tables.write(cohort.build(cohort.embedded(run, 10, 5, 64, 1), run, True), run / "tables" / "cohort.csv")
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    tables.write(splits.assign(table, shares, 1), run / "tables" / "splits.csv")
    return run


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_same_weights(small_run, tmp_path):
    """Three trainings of some seconds in processes of their own."""
    weights = []
    for name, kill in (("whole", False), ("killed", True)):
        run = shutil.copytree(small_run, tmp_path / name)
        settings = {
            "steps": 60,
            "validate_every": 10,
            "network_size": 32,
            "pixel_mm": 7.0,
            "batch_size": 4,
            "device": "cpu",
        }
        command = [*ICH, "train", str(run), *(f"--set={key}={value}" for key, value in settings.items())]
        if kill:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while not (run / "model" / "checkpoint.pt").is_file() and process.poll() is None:
                    time.sleep(0.01)
                process.kill()
            assert not (run / "model" / "weights.safetensors").exists()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert "best validation Dice" in done.stdout
        assert not (run / "model" / "checkpoint.pt").exists()
        weights.append((run / "model" / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_clock_that_jumps_makes_no_notebook_run_again(project):
    """Two kernels start. What was done is known by hashes, how long it took by a clock that nobody sets."""
    assert study("--set", "seconds=0") == 0
    run = project / "reports" / "slow"
    recorded = json.loads((run / "manifest.json").read_text())
    for path in [*run.rglob("*"), *(project / "notebooks").rglob("*.ipynb")]:
        os.utime(path, (0, 0) if "tables" in path.parts else (4e9, 4e9))
    assert study("--resume", "--set", "seconds=0") == 0
    assert len(pd.read_csv(run / "tables" / "runs.csv")) == 1
    assert json.loads((run / "manifest.json").read_text())["notebooks"] == recorded["notebooks"]
    assert all(each["seconds"] >= 0 for each in recorded["notebooks"].values())
    assert verify_run(run).wrong == []


@mounting
def test_a_full_disk_leaves_the_table_that_was_there(tmp_path):
    code = (
        "import sys, pandas as pd\n"
        "from ich.tables import write_plain\n"
        "path = sys.argv[1] + '/a.csv'\n"
        "write_plain(pd.DataFrame({'a': [1]}), path)\n"
        "try:\n"
        "    write_plain(pd.DataFrame({'a': range(100_000)}), path)\n"
        "except OSError as error:\n"
        "    print(error.errno, open(path).read().split())\n"
    )
    script = f'mount -t tmpfs -o size=64k none {tmp_path} && exec {sys.executable} -c "$1" {tmp_path}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "28 ['a', '1']"  # ENOSPC


@mounting
def test_a_study_on_a_full_disk_says_so_and_goes_on_later(project):
    (project / "reports").mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none reports && {sys.executable} -m ich.cli study slow --set seconds=0 "
        "--notebooks notebooks --reports reports; echo code $?; ls reports/slow; mount -o remount,size=64m reports; "
        f"{sys.executable} -m ich.cli study slow --resume --set seconds=0 --notebooks notebooks --reports reports; "
        "echo again $?; cd reports/slow && ls manifest.json"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=True)
    assert "code 2" in done.stdout or "code 1" in done.stdout
    assert "manifest.json" not in done.stdout.split("again")[0].split()
    assert "No space left on device" in done.stderr
    assert done.stdout.strip().endswith("again 0\nmanifest.json")


@mounting
def test_a_read_only_folder_is_said_before_anything_starts(project):
    (project / "reports").mkdir()
    script = (
        f"mount -t tmpfs -o ro none reports && {sys.executable} -m ich.cli study slow "
        "--notebooks notebooks --reports reports"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


@offline
@pytest.mark.parametrize(
    "words",
    [
        ["study", "slow", "--set", "seconds=0", "--notebooks", "notebooks", "--reports", "reports"],
        ["measure", "mask.nii", "--out", "table.csv"],
        ["phantom", "--n", "1", "--out", "made", "--size", "64", "--jobs", "1"],
        ["segment", "made/images/phantom-0000.nii.gz", "--out", "case"],
        ["cohort"],
        ["list"],
        ["help", "04_agreement"],
        ["verify", str(ROOT / "reports" / "demo")],
        ["archive", str(ROOT / "reports" / "demo"), "--out", "demo.zip"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_needs_no_network(project, words):
    """Without any network device but an unconnected one of its own; the kernel of a study listens on sockets."""
    if words[0] == "segment":
        assert main(["phantom", "--n", "1", "--out", "made", "--size", "64", "--jobs", "1"]) == 0
    labels = np.zeros((8, 8, 4), np.uint8)
    labels[2:5, 2:5, 1:3] = 1
    nib.save(nib.Nifti1Image(labels, np.diag([0.5, 0.5, 5, 1])), "mask.nii")
    script = 'ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null; exec "$@"'
    if words[0] == "study" and not (shutil.which("ip") or shutil.which("ifconfig")):
        script = f'{sys.executable} -c "$LO_UP"; exec "$@"'
    up = (  # SIOCSIFFLAGS: the loopback device of the new name space starts switched off
        "import fcntl, socket, struct; s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 0x49))"
    )
    command = ["unshare", "-rn", "sh", "-c", script, "sh", *ICH, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LO_UP": up})
    assert done.returncode == 0, done.stderr


def test_every_test_that_the_table_of_faults_names_is_there():
    text = (ROOT / "FAULTS.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", text)
    assert len(named) > 20
    missing = [
        f"{file}.py::{test}" for file, test in named
        if f"def {test}(" not in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
    ]  # fmt: skip
    assert missing == []
