"""`recsys doctor`: installed packages, whether they match, the device, commands that fix it."""

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple


class Trio(NamedTuple):
    """Releases that load together."""

    torch: str
    fbgemm: str
    torchrec: str


# by torch's release; as in requirements/torch-*
TRIOS = {
    "2.11": Trio("2.11.0", "1.6.0", "1.6.1"),
    "2.12": Trio("2.12.0", "1.7.0", "1.7.0"),
    "2.13": Trio("2.13.0", "1.8.0", "1.8.0"),
}
RECOMMENDED = TRIOS["2.13"]
PYTHONS = ((3, 11), (3, 12))
PLAIN_PACKAGES = ("lightning", "polars", "pyarrow", "onnxruntime", "safetensors", "pydantic")


class Finding(NamedTuple):
    """One line of the diagnosis; `repair` is the command that fixes it."""

    subject: str
    state: str
    is_good: bool
    repair: str | None = None


def diagnose() -> list[Finding]:
    """Everything that can be told without training anything."""
    findings = [_python(), *(_plain_package(name) for name in PLAIN_PACKAGES)]
    torch_version = _version("torch")
    if torch_version is None:
        repair = f"pip install torch=={RECOMMENDED.torch}"
        return [*findings, Finding("torch", "not installed", False, repair)]
    import torch

    has_cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_cuda else "cpu"
    findings.append(Finding("torch", torch_version, True))
    findings += _trio(torch_version, "cuda" if has_cuda else "cpu")
    findings.append(Finding("device", device, True))
    return findings


def _python() -> Finding:
    is_good = sys.version_info[:2] in PYTHONS
    known = " or ".join(".".join(map(str, release)) for release in PYTHONS)
    state = sys.version.split()[0]
    return Finding("python", state if is_good else f"{state}, but it must be {known}", is_good)


def _trio(torch_version: str, device: str) -> list[Finding]:
    """Whether torchrec and fbgemm are the ones for this torch and this device, and work."""
    builds = {"cpu": "fbgemm-gpu-cpu", "cuda": "fbgemm-gpu"}
    right, wrong = builds.pop(device), *builds.values()
    release = ".".join(torch_version.split(".")[:2])
    trio = TRIOS.get(release)
    if trio is None:
        repair = f"pip install torch=={RECOMMENDED.torch} {right}=={RECOMMENDED.fbgemm}"
        known = ", ".join(TRIOS)
        return [Finding("trio", f"torch {release} is not one of {known}", False, repair)]
    repair = f"pip install --force-reinstall --no-deps {right}=={trio.fbgemm}"
    has_wrong = _version(wrong) is not None
    if has_wrong:
        repair = f"pip uninstall -y {wrong} {right} && {repair}"
    findings = [
        _matched(right, trio.fbgemm, repair),
        _matched("torchrec", trio.torchrec, f"pip install --no-deps torchrec=={trio.torchrec}"),
    ]
    if has_wrong:
        findings.append(Finding("fbgemm", _of_wrong_build(wrong, right), False, repair))
    if all(finding.is_good for finding in findings):
        findings.append(_fused_lookup(device, repair))
    return findings


def _of_wrong_build(wrong: str, right: str) -> str:
    if _version(right) is not None:
        return "both builds of fbgemm are installed into one folder"
    if wrong == "fbgemm-gpu-cpu":
        return f"{wrong} has no kernels for this GPU: only embeddings.store=plain runs on it"
    return f"{wrong} needs a GPU"


def _matched(package: str, wanted: str, repair: str) -> Finding:
    """Any patch release of the wanted one will do."""
    found = _version(package)
    if found is None:
        return Finding(package, "not installed", False, repair)
    release = wanted.rsplit(".", 1)[0]
    is_good = found.split("+")[0].startswith(release + ".")
    state = found if is_good else f"{found}, but this torch needs {release}"
    return Finding(package, state, is_good, None if is_good else repair)


def _fused_lookup(device: str, repair: str) -> Finding:
    """One step through the fused kernels: a library may be installed and still not load."""
    try:
        import torch

        quietly = importlib.import_module("recsys.compat.torchrec")
        collection = quietly.FusedEmbeddingBagCollection(
            tables=[
                quietly.EmbeddingBagConfig(
                    name="t", num_embeddings=4, embedding_dim=4, feature_names=["f"]
                )
            ],
            optimizer_type=torch.optim.SGD,
            optimizer_kwargs={"lr": 0.1},
            device=torch.device(device),
        )
        ids = quietly.KeyedJaggedTensor(
            keys=["f"],
            values=torch.tensor([1], device=device),
            lengths=torch.tensor([1], device=device),
        )
        collection(ids).values().sum().backward()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return Finding("fused lookup", f"fails: {error}", False, repair)
    return Finding("fused lookup", f"works on {device}", True)


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
