"""Damaged, hostile and moved run folders and exports: refused, and no code is run."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from recsys.io.checksums import write_checksums
from recsys.serving.graph_spec import GraphSpec
from tests.faults.commands import files_below, run


def newest(run_dir: Path, kind: str = "step") -> Path:
    return sorted(run_dir.glob(f"checkpoints/{kind}-*"))[-1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = {"flipped": flip, "cut": cut, "empty": empty, "gone": Path.unlink}
FILES = [
    "state.json",
    "tensors.safetensors",
    "SHA256SUMS",
    "tables/layout.json",
    "tables/rank-00000.safetensors",
]


def resume(run_dir: Path):
    return run("train", "train.epochs=3", "--resume", run_dir)


@pytest.mark.parametrize(
    ("name", "damage"), list(zip(FILES, [*DAMAGES.values(), flip], strict=True)), ids=FILES
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(trained, name, damage):
    damage(newest(trained) / name)
    outcome = resume(trained)
    assert outcome.code == 0, outcome.err
    assert "step-000000020 is passed over" in outcome.err
    assert json.loads((trained / "training.json").read_text())["training"]["steps"] == 30


def test_when_every_checkpoint_is_damaged_nothing_is_resumed(trained):
    before = (trained / "config.yaml").read_bytes()
    for folder in trained.glob("checkpoints/step-*"):
        flip(folder / "tables/rank-00000.safetensors")
    assert resume(trained).is_refusal("every checkpoint", "is damaged")
    assert (trained / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_weights_are_neither_evaluated_nor_exported(trained, tmp_path, command, damage):
    damage(newest(trained, "best") / "tables/rank-00000.safetensors")
    shutil.rmtree(trained / "predictions")
    options = ["--out", tmp_path / "export"] if command == "export" else []
    assert run(command, trained, *options).is_refusal("best-")
    assert not (trained / "predictions").exists()
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("name", ["config.yaml", "schema.json"])
@pytest.mark.parametrize("damage", [cut, empty, Path.unlink], ids=["cut", "empty", "gone"])
def test_a_run_folder_that_has_lost_a_file_is_named(trained, name, damage):
    damage(trained / name)
    assert run("evaluate", trained).is_refusal(str(trained))
    assert resume(trained).is_refusal(str(trained))


class Hostile:
    """Pickled, it leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def hostile_bytes(mark: Path) -> bytes:
    return pickle.dumps(Hostile(mark))


def test_the_hostile_bytes_would_work(tmp_path):
    pickle.loads(hostile_bytes(tmp_path / "mark"))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_a_checkpoint_runs_no_code(trained, tmp_path, name):
    mark = tmp_path / "mark"
    for folder in trained.glob("checkpoints/*"):
        (folder / name).write_bytes(hostile_bytes(mark))
        if name != "SHA256SUMS":
            write_checksums(folder)  # the attacker knows how
    assert resume(trained).is_refusal("checkpoint")
    assert run("evaluate", trained).is_refusal()
    assert run("export", trained, "--out", tmp_path / "export").is_refusal()
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.pt", "weights.ckpt", "tables/.metadata", "hook.py"])
def test_a_file_that_does_not_belong_in_a_checkpoint_is_refused_unread(trained, tmp_path, name):
    mark = tmp_path / "mark"
    for folder in trained.glob("checkpoints/*"):
        (folder / name).write_bytes(hostile_bytes(mark))
    assert resume(trained).is_refusal("every checkpoint", "is damaged")
    assert run("evaluate", trained).is_refusal(f"{name} does not belong here")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["config.yaml", "schema.json"])
def test_a_hostile_run_folder_runs_no_code(trained, tmp_path, name):
    mark = tmp_path / "mark"
    call = f"!!python/object/apply:os.mkdir [{mark}]\n".encode()
    for content in (hostile_bytes(mark), call):
        (trained / name).write_bytes(content)
        for command in (["evaluate"], ["train", "--resume"], ["export", "--out", tmp_path / "e"]):
            assert run(*command, trained).is_refusal()
    assert not mark.exists()


LAYOUTS = {
    "no JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "numbers for names": b'{"1": 2}',
    "deep recursion": b"[" * 100_000,
}


@pytest.mark.parametrize("name", ["state.json", "tables/layout.json"])
@pytest.mark.parametrize("content", LAYOUTS.values(), ids=LAYOUTS)
def test_a_state_that_is_no_state_is_refused(trained, name, content):
    for folder in trained.glob("checkpoints/*"):
        (folder / name).write_bytes(content)
        write_checksums(folder)
    assert resume(trained).is_refusal("checkpoint")
    assert run("evaluate", trained).is_refusal("checkpoint")


def test_a_checkpoint_of_another_model_is_refused(trained, config, tmp_path):
    other = tmp_path / "other"
    assert run("train", config, "model.hidden_dims=[8]", "train.epochs=1", "--out", other).code == 0
    for kind in ("step", "best"):
        target = newest(trained, kind)
        shutil.rmtree(target)
        shutil.copytree(newest(other, kind), target)
    assert run("evaluate", trained).is_refusal("checkpoint", "network.model")
    assert resume(trained).is_refusal("checkpoint", "network.model")


@pytest.fixture(scope="module")
def finished_export(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "export"
    assert run("export", finished_run, "--out", out).code == 0
    return out


@pytest.fixture
def export(finished_export, tmp_path):
    return shutil.copytree(finished_export, tmp_path / "export")


EXPORT_FILES = ["manifest.json", "schema.json", "model/model.pt2", "tables/item.safetensors"]


@pytest.mark.parametrize("name", EXPORT_FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_export_is_not_verified(export, tiny_dataset, name, damage):
    damage(export / name)
    assert run("verify", export, "--data", tiny_dataset / "test").is_refusal(Path(name).name)


@pytest.fixture
def lonely(finished_export, tmp_path):
    """A copy of the export that does not find its run: the stored logits are compared."""
    return shutil.copytree(finished_export, tmp_path / "far/away/from/it" / "export")


HOSTILE_FILES = [
    "manifest.json",
    "SHA256SUMS",
    "model/dense.onnx",
    "tables/item.safetensors",
    "vocabularies/item.parquet",
]


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_pickle_in_an_export_runs_no_code(lonely, tiny_dataset, tmp_path, name):
    mark = tmp_path / "mark"
    (lonely / name).write_bytes(hostile_bytes(mark))
    if name != "SHA256SUMS":
        write_checksums(lonely)
    assert run("verify", lonely, "--data", tiny_dataset / "test").is_refusal()
    assert not mark.exists()


def test_the_pt2_graph_of_a_stranger_is_not_opened(lonely, tiny_dataset, tmp_path):
    mark = tmp_path / "mark"
    with zipfile.ZipFile(lonely / "model/model.pt2", "w") as archive:
        for name in ("model/data/weights/weight_0", "serialized_state_dict.pt", "version"):
            archive.writestr(name, hostile_bytes(mark))
    write_checksums(lonely)
    outcome = run("verify", lonely, "--data", tiny_dataset / "test")
    assert outcome.code == 0, outcome.err
    assert "against the trained model's logits, stored at export" in outcome.out
    assert not mark.exists()


def test_an_export_is_verified_without_its_run(lonely, tiny_dataset):
    outcome = run("verify", lonely, "--data", tiny_dataset / "test")
    assert outcome.code == 0, outcome.err
    assert "because the run was not found" in outcome.out


def test_a_report_is_written_over_and_never_read_as_code(trained, tmp_path):
    mark = tmp_path / "mark"
    for name in ("report.json", "report.html", "training.json"):
        (trained / name).write_bytes(hostile_bytes(mark))
    assert run("evaluate", trained).is_refusal("training.json")
    assert not mark.exists()


@pytest.mark.parametrize("damage", [cut, empty], ids=["cut", "empty"])
def test_damaged_predictions_are_not_compared(trained, damage):
    damage(trained / "predictions/test.parquet")
    assert run("compare", trained, trained).is_refusal("test.parquet")


def test_missing_predictions_are_not_compared(trained):
    (trained / "predictions/test.parquet").unlink()
    assert run("compare", trained, trained).is_refusal("test")


def test_a_refused_resume_changes_nothing(trained):
    before = {name: (trained / name).stat().st_mtime_ns for name in files_below(trained)}
    assert run("train", "model.hidden_dims=[4]", "--resume", trained).is_refusal("`model`")
    assert {name: (trained / name).stat().st_mtime_ns for name in files_below(trained)} == before


MANIFEST_LINKS = {"/dev/zero": "leads out of its folder", "../outside.json": "a symbolic link"}


@pytest.mark.parametrize(("target", "words"), MANIFEST_LINKS.items(), ids=MANIFEST_LINKS)
def test_a_manifest_that_is_a_link_out_of_the_export_is_refused(tmp_path, target, words):
    (tmp_path / "outside.json").write_text("{}")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "manifest.json").symlink_to(target)
    (tmp_path / "export" / "SHA256SUMS").write_text("0" * 64 + "  manifest.json\n")
    outcome = run("verify", tmp_path / "export", "--data", tmp_path / "outside.json")
    assert outcome.is_refusal(words)


@pytest.mark.parametrize("name", ["../outside.onnx", "/outside.onnx"])
def test_a_graph_outside_the_export_is_refused(name):
    with pytest.raises(ValidationError, match="inside this folder"):
        GraphSpec(file=name, inputs=(), outputs=())
