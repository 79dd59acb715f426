"""Per-case work on a Dask cluster of two workers on this machine: the results of serial work, and no case lost."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from cluster_work import die_once, double, double_or_die, double_or_hang, fail, slowly, who

from ich import cluster
from ich.cli import main
from ich.measure import measure_masks
from ich.parallel import each

pytest.importorskip("distributed", reason="Dask is not installed (extra `cluster`)")
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A scheduler with two workers of one thread, as `dask` starts them on a cluster's nodes."""
    folder = tmp_path_factory.mktemp("dask")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    environment.pop(cluster.SCHEDULER, None)
    log = folder / "log.txt"
    with log.open("w") as out:

        def start(*words):
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words], env=environment, cwd=folder, stdout=out, stderr=out
            )

        processes = [start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")]
        where = None
        for _ in range(240):
            if where := re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text()):
                break
            time.sleep(0.25)
        assert where, log.read_text()
        processes.append(start("worker", where.group(1), "--nthreads", "1", "--nworkers", "2", "--no-dashboard"))
        client = cluster._client(where.group(1))
        client.wait_for_workers(2, timeout=60)
        yield where.group(1)
        client.close()
        cluster._client.cache_clear()
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def on_cluster(address, monkeypatch):
    monkeypatch.setenv(cluster.SCHEDULER, address)
    cluster._client(address).wait_for_workers(2, timeout=60)
    return address


@pytest.mark.slow
def test_results_come_in_order_from_other_processes(on_cluster):
    """The first test of a cluster waits some seconds for its start."""
    seen = []
    assert each(double, [(n,) for n in range(40)], 2, done=lambda *found: seen.append(found)) == list(range(0, 80, 2))
    assert sorted(seen) == [(n, 2 * n) for n in range(40)]
    assert os.getpid() not in each(who, [(n,) for n in range(8)])


def test_more_cases_than_go_to_the_scheduler_at_once(on_cluster, monkeypatch):
    monkeypatch.setattr(cluster, "AHEAD", 5)
    assert each(double, [(n,) for n in range(60)]) == list(range(0, 120, 2))


def test_a_case_whose_worker_is_killed_is_done_by_another(on_cluster, tmp_path):
    assert each(die_once, [(n, tmp_path) for n in range(8)]) == list(range(0, 16, 2))


def test_workers_killed_from_outside_lose_no_case(on_cluster):
    workers = set(each(who, [(n,) for n in range(20)]))

    def kill():
        time.sleep(0.5)
        os.kill(min(workers), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert each(slowly, [(n,) for n in range(20)]) == list(range(0, 40, 2))
    killer.join()


@pytest.mark.slow
def test_a_case_that_kills_every_worker_is_named_and_the_others_are_done(on_cluster):
    """Dask tries it on four workers, each of which has to start again."""
    found = each(double_or_die, [(n,) for n in range(8)], dead=lambda number: f"case {number} died")
    assert found == [0, 2, 4, "case 3 died", 8, 10, 12, 14]


@pytest.mark.slow
def test_a_case_that_hangs_is_ended_on_each_worker(on_cluster):
    """As above."""
    found = each(double_or_hang, [(n,) for n in range(8)], dead=lambda number: f"case {number}", limit_s=1.0)
    assert found == [0, 2, 4, "case 3", 8, 10, 12, 14]


def test_an_error_of_a_case_is_raised_here(on_cluster):
    with pytest.raises(ValueError, match="case 0 cannot be"):
        each(fail, [(0,)])


def test_measuring_masks_by_relative_paths_gives_the_serial_table(on_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for n in range(6):
        mask = np.zeros((40, 40, 10), np.uint8)
        mask[8 : 12 + 3 * n, 10:25, 2 : 3 + n] = random.random((4 + 3 * n, 15, 1 + n)) < 0.9
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([-0.5, -0.5, 5.0, 1])), f"m{n}.nii.gz")
    (tmp_path / "m9.nii.gz").write_bytes(b"nothing")
    paths = sorted(Path().glob("*.nii.gz"))
    there = measure_masks(paths, 2)
    monkeypatch.delenv(cluster.SCHEDULER)
    here = measure_masks(paths, 1)
    for one, other in zip(there, here, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_the_command_line_takes_the_address(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(cluster.SCHEDULER, "")  # put back afterwards
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[2:6, 2:6, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([-1.0, -1, 5, 1])), tmp_path / "m.nii.gz")
    out = tmp_path / "t.csv"
    assert main(["measure", str(tmp_path / "m.nii.gz"), "--out", str(out), "--scheduler", address]) == 0
    assert pd.read_csv(out)["volume_ml"].tolist() == [pytest.approx(0.16)]


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    monkeypatch.setenv(cluster.SCHEDULER, "tcp://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:9"):
        each(double, [(1,)])
