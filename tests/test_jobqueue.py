"""Workers that a queue starts: a stand-in for Slurm's sbatch and scancel runs the jobs that dask-jobqueue writes."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from ich import cluster, jobqueue
from ich.cli import main

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed (extra `cluster`)")
if shutil.which("setsid") is None:
    pytest.skip("no setsid on this machine, which starts a job of its own", allow_module_level=True)
SBATCH = """#!/bin/sh
# Runs the job at once, in a process group whose number is the job's.
cp "$1" "$SLURM_STAND_IN/script.$$"
setsid sh "$SLURM_STAND_IN/script.$$" > "$SLURM_STAND_IN/log.$$" 2>&1 < /dev/null &
echo $! >> "$SLURM_STAND_IN/jobs"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do
  # Only what the stand-in started: -1 would be every process of the machine.
  grep -qx "$job" "$SLURM_STAND_IN/jobs" 2> /dev/null && kill -TERM -- "-$job" 2> /dev/null
  echo "$job" >> "$SLURM_STAND_IN/cancelled"
done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Folder with the stand-ins first on the path, and what they note."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(folder))
    monkeypatch.setenv(cluster.SCHEDULER, "")  # put back afterwards
    yield folder
    cluster._client.cache_clear()
    for job in (folder / "jobs").read_text().split() if (folder / "jobs").is_file() else []:
        try:
            os.killpg(int(job), signal.SIGKILL)
        except ProcessLookupError:
            continue


def written(tmp_path: Path, **settings: object) -> Path:
    path = tmp_path / "slurm.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    return path


def cancelled(slurm: Path, n: int) -> set[str]:
    """Jobs that were cancelled, once there are n or ten seconds have passed."""
    noted = slurm / "cancelled"
    for _ in range(100):
        found = set(noted.read_text().split()) if noted.is_file() else set()
        if len(found) >= n:
            break
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_a_command_sends_its_cases_to_jobs_and_cancels_them(slurm, tmp_path):
    """Each job starts a Python of its own."""
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[2:6, 2:6, 1:3] = 1
    for n in range(3):
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([-1.0, -1, 5 + n, 1])), tmp_path / f"m{n}.nii.gz")
    asked = written(tmp_path, system="slurm", jobs=2, memory="1GB", queue="short", walltime="'00:20:00'")
    masks = [str(tmp_path / f"m{n}.nii.gz") for n in range(3)]
    assert main(["measure", *masks, "--out", str(tmp_path / "t.csv"), "--scheduler", str(asked)]) == 0
    assert pd.read_csv(tmp_path / "t.csv")["volume_ml"].tolist() == pytest.approx([0.16, 0.192, 0.224])
    jobs = (slurm / "jobs").read_text().split()
    assert len(jobs) == 2
    script = next(slurm.glob("script.*")).read_text()
    assert "#SBATCH -p short" in script
    assert "#SBATCH -t 00:20:00" in script
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script
    assert "--nthreads 1" in script
    assert cancelled(slurm, len(jobs)) == set(jobs)


def test_jobs_that_do_not_start_are_said(slurm, tmp_path, capsys):
    (slurm / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 999999999\n")
    asked = written(tmp_path, system="slurm", jobs=1, memory="1GB", wait_minutes=0.01)
    assert main(["measure", "m.nii.gz", "--out", str(tmp_path / "t.csv"), "--scheduler", str(asked)]) == 2
    assert "no job of slurm started within 0.01 minutes" in capsys.readouterr().err
    assert cancelled(slurm, 1) == {"999999999"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"jobs": 2, "memory": "1GB"}, "says nothing of system"),
        ({"system": "slrum", "jobs": 2, "memory": "1GB"}, "system is 'slrum', wanted one of slurm, pbs"),
        ({"system": "pbs", "jobs": 0, "memory": "1GB"}, "jobs is 0, wanted a number from 1"),
        ({"system": "slurm", "jobs": 2, "memory": "1GB", "partition": "x"}, "takes no partition"),
        ({}, "holds no settings"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, settings, said):
    path = written(tmp_path, **settings)
    with pytest.raises(ValueError, match=said), jobqueue.scheduler(str(path)):
        pass


def test_an_address_is_passed_on():
    with jobqueue.scheduler("tcp://host:8786") as address:
        assert address == "tcp://host:8786"
    with jobqueue.scheduler(None) as address:
        assert address is None
