"""`recsys doctor`: what is installed, whether versions match, commands to fix it."""

import importlib
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


class Trio(NamedTuple):
    """Releases that load together."""

    torch: str
    fbgemm: str
    torchrec: str


# By torch's release; requirements/torch-*.txt pin the same. Measured: fbgemm 1.9.0 does not load
# with torch 2.15 (undefined symbol c10::report_overflow), and no later fbgemm is published.
TRIOS = {
    "2.11": Trio("2.11.0", "1.6.0", "1.6.1"),
    "2.12": Trio("2.12.0", "1.7.0", "1.7.0"),
    "2.13": Trio("2.13.0", "1.8.0", "1.8.0"),
    "2.14": Trio("2.14.1", "1.9.0", "1.9.2"),
}
RECOMMENDED = TRIOS["2.13"]
TRAIN, FUSED = "train, search, export", "fused tables"
NOT_INSTALLED = "not installed"


class Finding(NamedTuple):
    """One line of the diagnosis; `repair` is the command that fixes or installs it."""

    subject: str
    state: str
    is_good: bool | None  # None: optional and not installed
    repair: str | None = None


def diagnose() -> list[Finding]:
    """Checks the packages of each extra, the versions that must match, and the device."""
    if _version("recsys") is None:
        return [Finding("recsys", NOT_INSTALLED, False, "pip install .")]
    core = _requirements("")
    findings = [_python(), _checked("prepare, verify", core, _install(core))]
    needed = _requirements("train")
    with_torch = _install(
        [f"torch=={RECOMMENDED.torch}", *(r for r in needed if r.name != "torch")]
    )
    if _version("torch") is None:
        return [*findings, Finding(TRAIN, NOT_INSTALLED, None, with_torch)]
    import torch

    has_cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_cuda else "cpu"
    findings.append(_checked(TRAIN, needed, with_torch))
    findings += _fused(torch.__version__, "cuda" if has_cuda else "cpu")
    findings.append(Finding("device", device, True))
    return findings


def _python() -> Finding:
    state = sys.version.split()[0]
    known = metadata("recsys")["Requires-Python"]
    is_good = SpecifierSet(known).contains(state, prereleases=True)
    return Finding("python", state if is_good else f"{state}, but it must be {known}", is_good)


def _requirements(extra: str) -> list[Requirement]:
    """The packages that an extra of recsys adds; those of the core for an empty name."""
    parsed = [Requirement(line) for line in requires("recsys") or []]
    if extra:
        parsed = [r for r in parsed if r.marker and r.marker.evaluate({"extra": extra})]
    else:
        parsed = [r for r in parsed if r.marker is None]
    return [Requirement(f"{r.name}{r.specifier}") for r in parsed if r.name != "recsys"]


def _checked(subject: str, needed: list[Requirement], repair: str) -> Finding:
    """Whether every package is installed, in a release within its range."""
    found = {r: _version(r.name) for r in needed}
    missing = [f"{r.name} {NOT_INSTALLED}" for r in needed if found[r] is None]
    wrong = [
        f"{r.name} {release}, but it must be {r.specifier}"
        for r, release in found.items()
        if release is not None and not r.specifier.contains(release, prereleases=True)
    ]
    if missing or wrong:
        return Finding(subject, "; ".join(missing + wrong), False, repair)
    return Finding(subject, ", ".join(f"{r.name} {found[r]}" for r in needed), True)


def _install(packages: Sequence[Requirement | str], *options: str) -> str:
    return shlex.join(["pip", "install", *options, *map(str, packages)])


def _fused(torch_version: str, device: str) -> list[Finding]:
    """Whether torchrec and fbgemm are the ones for this torch and this device, and work."""
    builds = ["fbgemm-gpu", "fbgemm-gpu-cpu"]
    right, wrong = builds if device == "cuda" else builds[::-1]
    is_installed = any(map(_version, ("torchrec", *builds)))
    release = ".".join(torch_version.split(".")[:2])
    trio = TRIOS.get(release, RECOMMENDED)
    others = [r for r in _requirements("fused-cpu") if r.name not in builds]
    pins = [] if release in TRIOS else [f"torch=={trio.torch}"]
    install = _install([*pins, f"{right}=={trio.fbgemm}", *others])
    install += " && " + _install([f"torchrec=={trio.torchrec}"], "--no-deps")
    if pins:
        state = f"torch {release} is not one of {', '.join(TRIOS)}"
    elif not is_installed:
        state = NOT_INSTALLED
    elif _version(wrong) is not None:
        state = _of_wrong_build(wrong, right)
        install = f"pip uninstall -y {wrong} {right} && {install}"
    else:
        return _matched(right, trio, others, install)
    return [Finding(FUSED, state, False if is_installed else None, install)]


def _matched(right: str, trio: Trio, others: list[Requirement], install: str) -> list[Finding]:
    """Any patch releases of the trio will do; what matches must also run."""
    releases = {right: trio.fbgemm, "torchrec": trio.torchrec}
    needed = [Requirement(f"{n}=={v.rsplit('.', 1)[0]}.*") for n, v in releases.items()]
    finding = _checked(FUSED, [*needed, *others], install)
    if not finding.is_good:
        return [finding]
    pins = [f"{name}=={release}" for name, release in releases.items()]
    repair = _install(pins, "--force-reinstall", "--no-deps")
    return [finding, _fused_lookup("cuda" if right == "fbgemm-gpu" else "cpu", repair)]


def _of_wrong_build(wrong: str, right: str) -> str:
    if _version(right) is not None:
        return "both builds of fbgemm are installed into one folder"
    if wrong == "fbgemm-gpu-cpu":
        return f"{wrong} has no kernels for this GPU: only embeddings.store=plain runs on it"
    return f"{wrong} needs a GPU"


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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
