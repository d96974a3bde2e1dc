"""`prepare`, `verify` and the reader in a process in which torch cannot be imported."""

import json
import subprocess
import sys

import polars as pl
import pytest

from recsys.serving.manifest import load_manifest

# None in sys.modules makes an import fail
POISON = """
import json, sys
sys.modules.update(dict.fromkeys(("torch", "torchrec", "fbgemm_gpu", "lightning", "torchmetrics")))
"""
COMMANDS = """
from recsys.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["recsys", *arguments]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", POISON + program, *arguments], capture_output=True, text=True
    )


def run_commands(*commands):
    return run(COMMANDS, json.dumps([[str(word) for word in command] for command in commands]))


@pytest.fixture
def place(workplace):
    return workplace("dcn_v2")


@pytest.mark.slow
def test_prepare_and_verify_need_no_torch(place, tmp_path):
    recipe = place.raw.parent / "shop.yaml"
    done = run_commands(
        ("prepare", recipe, "--raw", place.raw, "--out", tmp_path / "dataset"),
        ("verify", place.export, "--data", tmp_path / "dataset"),
        ("verify", place.export, "--data", place.raw),
    )
    assert done.returncode == 0, done.stderr
    prepared = pl.read_parquet(tmp_path / "dataset/test")
    assert prepared.equals(pl.read_parquet(place.dataset / "test"))
    assert "because torch is not installed" in done.stdout
    assert "against the trained model's logits, stored at export" in done.stdout
    found = [(p.reference, p.passed, p.rows) for p in load_manifest(place.export).parity[-8:]]
    stored = [("stored", True, 2048)] * 2
    encoded, raw = ([(None, True, n), ("form", True, n)] for n in (30, 300))
    assert found == [*encoded, *stored, *raw, *stored]


def test_a_named_run_needs_torch_and_the_message_says_so(place):
    run_dir = place.trained.run_dir
    done = run_commands(("verify", place.export, "--data", place.dataset, "--run", run_dir))
    assert done.returncode == 2
    assert "needs torch, which is not installed" in done.stderr
    assert "pip install" in done.stderr


def test_the_reader_scores_raw_rows_without_torch_and_loads_little(place):
    program = """
import recsys
from recsys import ExportReader
loaded = {name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}
assert not loaded & {"torch", "lightning", "scipy", "onnx", "onnxruntime"}, loaded
import polars
scores = ExportReader(sys.argv[1]).score_raw(polars.read_csv(sys.argv[2], infer_schema=False))
print(len(scores.probabilities), recsys.__version__)
"""
    done = run(program, str(place.export), str(place.raw))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "300 0.1.0\n"
