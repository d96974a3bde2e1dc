"""The doctor's findings on machines that this one is not; what stands in for missing kernels."""

import re
from pathlib import Path

import pytest
import torch

from recsys.cli import doctor
from recsys.compat import fbgemm as fbgemm_kernels
from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.embeddings.collection import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.tables.optimizers import SgdConfig
from recsys.errors import RecsysError
from recsys.schema import Feature, Schema

REQUIREMENTS = Path(__file__).parent.parent / "requirements"


@pytest.fixture
def machine(monkeypatch):
    """machine(torch, device, package=version …) → the findings about the trio, by subject."""

    def examine(torch_version: str, device: str, **packages: str) -> dict[str, doctor.Finding]:
        installed = {name.replace("_", "-"): version for name, version in packages.items()}
        monkeypatch.setattr(doctor, "_version", installed.get)
        return {f.subject: f for f in doctor._trio(torch_version, device)}

    return examine


@pytest.mark.parametrize("release", doctor.TRIOS)
def test_the_requirements_install_the_trio_that_the_doctor_wants(release):
    trio = doctor.TRIOS[release]
    folder = REQUIREMENTS / f"torch-{release}"
    pins = {
        name: dict(re.findall(r"^([\w-]+)==([\d.]+)$", (folder / name).read_text(), re.MULTILINE))
        for name in ("cpu.txt", "cuda.txt", "torchrec.txt")
    }
    assert pins["cpu.txt"] == {"torch": trio.torch, "fbgemm-gpu-cpu": trio.fbgemm}
    assert pins["cuda.txt"] == {"torch": trio.torch, "fbgemm-gpu": trio.fbgemm}
    assert pins["torchrec.txt"] == {"torchrec": trio.torchrec}


def test_the_kernels_of_this_machine_work():
    findings = doctor.diagnose()
    assert [f for f in findings if not f.is_good] == []
    assert "fused lookup" in {f.subject for f in findings}


def test_an_fbgemm_of_another_torch_is_named_with_its_repair(machine):
    findings = machine("2.11.0", "cpu", fbgemm_gpu_cpu="1.8.0", torchrec="1.6.1")
    assert findings["fbgemm-gpu-cpu"].state == "1.8.0, but this torch needs 1.6"
    assert findings["fbgemm-gpu-cpu"].repair.endswith("fbgemm-gpu-cpu==1.6.0")
    assert findings["torchrec"].is_good
    assert "fused lookup" not in findings


def test_a_gpu_with_the_cpu_build_is_told_that_the_plain_store_serves(machine):
    findings = machine("2.11.0+cu130", "cuda", fbgemm_gpu_cpu="1.6.0", torchrec="1.6.1")
    assert "only embeddings.store=plain" in findings["fbgemm"].state
    assert findings["fbgemm"].repair == (
        "pip uninstall -y fbgemm-gpu-cpu fbgemm-gpu && "
        "pip install --force-reinstall --no-deps fbgemm-gpu==1.6.0"
    )


def test_two_builds_in_one_folder_are_named(machine):
    findings = machine(
        "2.13.0", "cpu", fbgemm_gpu_cpu="1.8.0", fbgemm_gpu="1.8.0", torchrec="1.8.0"
    )
    assert "both builds" in findings["fbgemm"].state


def test_a_torch_without_a_trio_is_named(machine):
    findings = machine("2.10.1", "cpu")
    assert findings["trio"].repair == "pip install torch==2.13.0 fbgemm-gpu-cpu==1.8.0"


def test_fused_tables_are_refused_on_a_gpu_without_kernels(monkeypatch):
    monkeypatch.setattr(fbgemm_kernels, "has_cuda_kernels", lambda: False)
    config = EmbeddingsConfig(default=FullTableConfig(embedding_dim=4))
    feature = Feature(name="a", kind="categorical", column="a", cardinality=3)
    schema = Schema(name="x", features=(feature,), splits={})
    with pytest.raises(RecsysError, match=r"without its CUDA kernels(.|\n)*store=plain"):
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
