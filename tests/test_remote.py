"""Data at addresses: a store in memory, and files behind a web server of this machine."""

import functools
import http.server
import importlib.util
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import nibabel
import numpy as np
import pandas as pd
import pytest

from ich import remote
from ich.cli import main


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ICH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store():
    """memory://data with two masks of 8 and 16 voxels of 1 x 1 x 5 mm and a manifest."""
    memory = fsspec.filesystem("memory")
    for n in (1, 2):
        mask = np.zeros((10, 10, 4), np.uint8)
        mask[2:4, 2 : 2 + 2 * n, 1:3] = 1
        memory.pipe(f"/data/masks/m{n}.nii.gz", nibabel.Nifti1Image(mask, np.diag([-1.0, -1, 5, 1])).to_bytes())
    memory.pipe("/data/cases.csv", b"case_id,reference_mask\nm1,masks/m1.nii.gz\nm2,masks/m2.nii.gz\n")
    yield memory
    memory.rm("/data", recursive=True)


def test_a_path_stays_what_it_is(tmp_path):
    assert remote.local(tmp_path) == tmp_path
    assert not remote.is_remote("C:/data")


def test_a_folder_is_fetched_once_and_again_where_it_changed(store, cache, monkeypatch):
    fetched = []
    real = type(store).get_file
    monkeypatch.setattr(type(store), "get_file", lambda self, a, b, **k: fetched.append(a) or real(self, a, b, **k))
    folder = remote.local("memory://data/masks/")
    assert folder.name == "masks"
    assert sorted(path.name for path in folder.iterdir()) == ["m1.nii.gz", "m2.nii.gz"]
    assert (folder / "m1.nii.gz").read_bytes() == store.cat("/data/masks/m1.nii.gz")
    assert len(fetched) == 2
    remote.local("memory://data/masks")
    assert len(fetched) == 2
    (folder / "m1.nii.gz").write_bytes(b"damaged")
    store.pipe("/data/masks/m2.nii.gz", b"new content")
    remote.local("memory://data/masks")
    assert sorted(fetched[2:]) == ["/data/masks/m1.nii.gz", "/data/masks/m2.nii.gz"]
    assert (folder / "m2.nii.gz").read_bytes() == b"new content"


def test_two_that_want_a_folder_at_once_get_it_whole(store, cache, monkeypatch):
    fetched = []
    real = type(store).get_file

    def slowly(self, name, path, **options):
        fetched.append(name)
        time.sleep(0.1)
        real(self, name, path, **options)

    monkeypatch.setattr(type(store), "get_file", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(remote.local, ["memory://data/masks"] * 2)
    assert first == second
    assert sorted(path.name for path in first.iterdir()) == ["m1.nii.gz", "m2.nii.gz"]
    assert sorted(fetched) == ["/data/masks/m1.nii.gz", "/data/masks/m2.nii.gz"]


def test_with_a_manifest_comes_what_it_names(store):
    path = remote.local("memory://data/cases.csv")
    assert path.name == "cases.csv"
    assert (path.parent / "masks" / "m2.nii.gz").is_file()


def test_measure_and_cohort_take_addresses(store, tmp_path):
    out = tmp_path / "table.csv"
    addresses = [f"memory://data/masks/m{n}.nii.gz" for n in (1, 2)]
    # 2 x 2 x 2 voxels of 5 mm³ are 0.04 ml
    assert main(["measure", *addresses, "--out", str(out), "--jobs", "1"]) == 0
    assert pd.read_csv(out)["volume_ml"].tolist() == pytest.approx([0.04, 0.08])


def test_evaluate_takes_addresses(store, tmp_path, capsys):
    """Up to the run folder, which is there already."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").touch()
    folder = "memory://data/masks"
    assert main(["evaluate", "--reference", folder, "--prediction", folder, "--out", str(tmp_path / "run")]) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://nowhere/at-all", "nothing is there"),
        ("nosuch://bucket/x", "nosuch"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(address, said, tmp_path, capsys):
    assert main(["measure", address, "--out", str(tmp_path / "t.csv")]) == 2
    assert said in capsys.readouterr().err


def test_a_name_that_leads_out_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leads out"):
        remote._below(tmp_path, "bucket/a", "bucket/a/../../etc/passwd", "s3://bucket/a")


def test_a_password_is_not_repeated(tmp_path):
    with pytest.raises(ValueError, match="nosuch://host/x") as raised:
        remote.local("nosuch://me:secret@host/x")
    assert "secret" not in str(raised.value).split(":", 3)[0]


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp (extra `remote`) is not installed")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_file_behind_a_web_server(tmp_path):
    (tmp_path / "www").mkdir()
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[2:4, 2:4, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([-1.0, -1, 5, 1])), tmp_path / "www" / "m.nii.gz")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "www"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        path = remote.local(f"http://127.0.0.1:{server.server_port}/m.nii.gz")
        assert path.read_bytes() == (tmp_path / "www" / "m.nii.gz").read_bytes()
        with pytest.raises((ValueError, OSError)):
            remote.local(f"http://127.0.0.1:{server.server_port}/none.nii.gz")
    finally:
        server.shutdown()
        server.server_close()
