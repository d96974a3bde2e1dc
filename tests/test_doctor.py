"""The doctor's findings on machines that this one is not; what stands in for missing kernels."""

import importlib
import sys

import pytest
import torch

from recsys.cli import doctor, main
from recsys.compat import fbgemm as fbgemm_kernels
from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.optimizers import SgdConfig
from recsys.errors import RecsysError
from recsys.schema import Feature, Schema

OTHERS = {r.name: "1.0.3" for r in doctor._requirements("fused-cpu")} | {"fbgemm-gpu-cpu": None}
TORCHREC_1_6 = " && pip install --no-deps torchrec==1.6.1"


@pytest.fixture
def machine(monkeypatch):
    """machine(torch, device, package=version …) → the finding about fused tables."""

    def examine(torch_version: str, device: str, **packages: str) -> doctor.Finding:
        installed = OTHERS | {name.replace("_", "-"): v for name, v in packages.items()}
        monkeypatch.setattr(doctor, "_version", installed.get)
        (finding,) = doctor._fused(torch_version, device)
        assert finding.subject == "fused tables"
        return finding

    return examine


@pytest.fixture
def without(monkeypatch):
    """without(package …) → the findings by subject, as if these packages were not installed."""
    version = doctor._version

    def examine(*packages: str) -> dict[str, doctor.Finding]:
        monkeypatch.setattr(doctor, "_version", lambda n: None if n in packages else version(n))
        return {finding.subject: finding for finding in doctor.diagnose()}

    return examine


def test_the_kernels_of_this_machine_work():
    findings = doctor.diagnose()
    assert [f for f in findings if not f.is_good] == []
    assert "fused lookup" in {f.subject for f in findings}


def test_an_fbgemm_of_another_torch_is_named_with_its_repair(machine):
    finding = machine("2.11.0", "cpu", fbgemm_gpu_cpu="1.8.0", torchrec="1.6.1")
    assert finding.is_good is False
    assert finding.state == "fbgemm-gpu-cpu 1.8.0, but it must be ==1.6.*"
    assert finding.repair.startswith("pip install fbgemm-gpu-cpu==1.6.0 ")
    assert finding.repair.endswith(TORCHREC_1_6)


def test_a_gpu_with_the_cpu_build_is_told_that_the_plain_store_serves(machine):
    finding = machine("2.11.0+cu130", "cuda", fbgemm_gpu_cpu="1.6.0", torchrec="1.6.1")
    assert "only embeddings.store=plain" in finding.state
    assert finding.repair.startswith(
        "pip uninstall -y fbgemm-gpu-cpu fbgemm-gpu && pip install fbgemm-gpu==1.6.0 "
    )


def test_two_builds_in_one_folder_are_named(machine):
    finding = machine("2.13.0", "cpu", fbgemm_gpu_cpu="1.8.0", fbgemm_gpu="1.8.0", torchrec="1.8.0")
    assert "both builds" in finding.state


def test_a_torch_without_a_trio_is_named(machine):
    finding = machine("2.10.1", "cpu", torchrec="1.5.0")
    assert finding.is_good is False
    assert "torch 2.10 is not one of 2.11" in finding.state
    trio = doctor.RECOMMENDED
    assert finding.repair.startswith(
        f"pip install torch=={trio.torch} fbgemm-gpu-cpu=={trio.fbgemm} "
    )


def test_fused_tables_are_optional_with_the_command_that_installs_them(machine):
    finding = machine("2.11.0", "cpu")
    assert (finding.state, finding.is_good) == ("not installed", None)
    command, _, _ = finding.repair.partition(" && ")
    packages = command.removeprefix("pip install ").split()
    assert packages[0] == "fbgemm-gpu-cpu==1.6.0"
    names = {r.name for r in doctor._requirements("fused-cpu")}
    assert {p.partition("=")[0] for p in packages} == names
    assert finding.repair.endswith(TORCHREC_1_6)


def test_training_is_optional_with_the_command_that_installs_it(without):
    findings = without("torch")
    training = findings.pop("train, search, export")
    assert (training.state, training.is_good) == ("not installed", None)
    assert training.repair.startswith(f"pip install torch=={doctor.RECOMMENDED.torch} ")
    assert "lightning<" in training.repair
    assert findings.keys() == {"python", "prepare, verify"}
    assert all(finding.is_good for finding in findings.values())


def test_a_package_that_an_installed_part_misses_is_named(without):
    findings = without("polars", "onnxscript")
    core, training = findings["prepare, verify"], findings["train, search, export"]
    assert (core.state, core.is_good) == ("polars not installed", False)
    assert "'polars<" in core.repair
    assert (training.state, training.is_good) == ("onnxscript not installed", False)


def test_a_release_out_of_range_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_version", {"numpy": "1.26.4", "rich": "15.0.0"}.get)
    needed = [doctor.Requirement("numpy>=2.1,<3"), doctor.Requirement("rich>=13")]
    finding = doctor._checked("core", needed, "pip install …")
    assert (finding.state, finding.is_good) == ("numpy 1.26.4, but it must be <3,>=2.1", False)


def test_a_command_that_needs_a_missing_package_names_it_and_the_doctor(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "recsys.training.train", raising=False)
    monkeypatch.setattr(main, "app", lambda: importlib.import_module("recsys.training.train"))
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "needs the package torch, which is not installed" in message
    assert "recsys doctor" in message


def test_fused_tables_are_refused_on_a_gpu_without_kernels(monkeypatch):
    monkeypatch.setattr(fbgemm_kernels, "has_cuda_kernels", lambda: False)
    config = EmbeddingsConfig(default=FullTableConfig(embedding_dim=4))
    feature = Feature(name="a", kind="categorical", column="a", cardinality=3)
    schema = Schema(name="x", features=(feature,), splits={})
    with pytest.raises(RecsysError, match=r"has no CUDA kernels(.|\n)*store=plain"):
        build_embeddings(config, schema, SgdConfig(learning_rate=1.0), torch.device("cuda"))


@pytest.mark.parametrize("shape", [(5,), (0,), (3, 4)])
def test_the_stand_in_for_a_missing_operator_equals_it(shape):
    lengths = torch.randint(0, 9, shape, dtype=torch.int32)
    expected = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths)
    torch.testing.assert_close(fbgemm_kernels.complete_cumsum(lengths), expected, rtol=0, atol=0)


def test_batches_need_no_other_operator_that_a_gpu_would_lack():
    called = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.append(str(function))
            return function(*args, **(kwargs or {}))

    ids = KeyedJaggedTensor(
        keys=["a", "b"], values=torch.arange(5), lengths=torch.tensor([1, 2, 0, 2])
    )
    with Watch():
        ids.to(torch.device("cpu")).offsets()
        bags = ids.to_dict()
        assert bags["b"].offsets().tolist() == [0, 0, 2]
    names = {name for name in called if name.startswith("fbgemm")}
    assert names <= {"fbgemm.asynchronous_complete_cumsum.default"}
