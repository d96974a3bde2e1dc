"""`recsys doctor`: what is installed, does it match, which device is used, what to type if not."""

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

# torch → the torchrec and fbgemm that load with it
TRIOS = {"2.11": "1.6", "2.12": "1.7", "2.13": "1.8"}
RECOMMENDED = ("2.13.0", "1.8.0")
PLAIN_PACKAGES = ("lightning", "polars", "pyarrow", "onnxruntime", "safetensors", "pydantic")


class Finding(NamedTuple):
    """One line of the diagnosis; `repair` is the exact line that mends it."""

    subject: str
    state: str
    is_good: bool
    repair: str | None = None


def diagnose() -> list[Finding]:
    """Everything that can be told without training anything."""
    findings = [Finding("python", sys.version.split()[0], sys.version_info >= (3, 11))]
    findings += [_plain_package(name) for name in PLAIN_PACKAGES]
    torch_version = _version("torch")
    if torch_version is None:
        repair = f"pip install torch=={RECOMMENDED[0]}"
        return [*findings, Finding("torch", "not installed", False, repair)]
    import torch

    has_cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_cuda else "cpu"
    findings.append(Finding("torch", torch_version, True))
    findings += _trio(torch_version, has_cuda)
    findings.append(Finding("device", device, True))
    return findings


def _trio(torch_version: str, has_cuda: bool) -> list[Finding]:
    fbgemm = "fbgemm-gpu" if has_cuda else "fbgemm-gpu-cpu"
    release = ".".join(torch_version.split(".")[:2])
    wanted = TRIOS.get(release)
    if wanted is None:
        repair = f"pip install torch=={RECOMMENDED[0]} {fbgemm}=={RECOMMENDED[1]}"
        known = ", ".join(TRIOS)
        return [Finding("trio", f"torch {release} is not one of {known}", False, repair)]
    repair_fbgemm = f"pip install --force-reinstall --no-deps {fbgemm}=={wanted}.0"
    other = _version("fbgemm-gpu-cpu" if has_cuda else "fbgemm-gpu")
    if other is not None:
        unwanted = "fbgemm-gpu-cpu" if has_cuda else "fbgemm-gpu"
        repair_fbgemm = f"pip uninstall -y {unwanted} {fbgemm} && " + repair_fbgemm
    findings = [
        _matched(fbgemm, wanted, repair_fbgemm),
        _matched("torchrec", wanted, f"pip install --no-deps torchrec=={wanted}.0"),
    ]
    if other is not None:
        state = "both builds of fbgemm are installed into one folder"
        findings.append(Finding("fbgemm", state, False, repair_fbgemm))
    if all(finding.is_good for finding in findings):
        findings.append(_fused_lookup(repair_fbgemm))
    return findings


def _matched(package: str, wanted: str, repair: str) -> Finding:
    found = _version(package)
    if found is None:
        return Finding(package, "not installed", False, repair)
    is_good = found.split("+")[0].startswith(wanted + ".")
    state = found if is_good else f"{found}, but this torch needs {wanted}"
    return Finding(package, state, is_good, None if is_good else repair)


def _fused_lookup(repair: str) -> Finding:
    """One lookup through the fused kernels: a library may be installed and still not load."""
    try:
        import torch

        quietly = importlib.import_module("recsys.torchrec_quietly")
        collection = quietly.FusedEmbeddingBagCollection(
            tables=[
                quietly.EmbeddingBagConfig(
                    name="t", num_embeddings=4, embedding_dim=4, feature_names=["f"]
                )
            ],
            optimizer_type=torch.optim.SGD,
            optimizer_kwargs={"lr": 0.1},
            device=torch.device("cpu"),
        )
        ids = quietly.KeyedJaggedTensor(
            keys=["f"], values=torch.tensor([1]), lengths=torch.tensor([1])
        )
        collection(ids)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return Finding("fused lookup", f"fails: {error}", False, repair)
    return Finding("fused lookup", "works", True)


def _plain_package(name: str) -> Finding:
    found = _version(name)
    if found is None:
        return Finding(name, "not installed", False, "pip install -r requirements/base.txt")
    return Finding(name, found, True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
