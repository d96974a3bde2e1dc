"""Extras, ranges and exact pins agree; a wheel contains every file that is read."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recsys.cli import doctor

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"core": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
RANGES = [Requirement(line) for lines in EXTRAS.values() for line in lines]
OWN = {"recsys", "data_pipelines"}
MAKEFILE = (ROOT / "Makefile").read_text()


def _pins(file: str) -> dict[str, str]:
    text = (ROOT / "requirements" / file).read_text()
    return dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, re.MULTILINE))


def test_there_is_one_file_of_pins_for_each_trio_that_the_doctor_knows():
    files = {path.stem.removeprefix("torch-") for path in ROOT.glob("requirements/torch-*")}
    assert files == set(doctor.TRIOS)


@pytest.mark.parametrize("release", doctor.TRIOS)
def test_the_pins_of_a_trio_are_those_that_the_doctor_wants(release):
    trio = doctor.TRIOS[release]
    assert _pins(f"torch-{release}.txt") == {
        "torch": trio.torch,
        "torchrec": trio.torchrec,
        "fbgemm-gpu": trio.fbgemm,
        "fbgemm-gpu-cpu": trio.fbgemm,
    }
    assert "-c constraints.txt" in (ROOT / f"requirements/torch-{release}.txt").read_text()


def test_make_installs_the_trio_that_the_doctor_recommends():
    default = re.search(r"^DEFAULT_TRIO := (\S+)$", MAKEFILE, re.MULTILINE)[1]
    assert doctor.TRIOS[default] == doctor.RECOMMENDED


@pytest.mark.parametrize("release", doctor.TRIOS)
def test_every_requirement_has_one_pin_within_its_range(release):
    shared, trio = _pins("constraints.txt"), _pins(f"torch-{release}.txt")
    assert not shared.keys() & trio.keys()
    pins = shared | trio
    needed = [r for r in RANGES if r.name != PROJECT["name"]]
    assert {r.name for r in needed} == pins.keys()
    assert [str(r) for r in needed if not r.specifier.contains(pins[r.name])] == []


def test_no_package_is_required_by_two_extras():
    names = [r.name for r in RANGES if r.name != PROJECT["name"]]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    "folder", ["data_pipelines", "recsys/serving", "recsys/reports", "recsys/io"]
)
def test_the_core_requires_what_is_imported_without_torch(folder):
    imported = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
    packages = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    distributions = metadata.packages_distributions()
    needed = {canonicalize_name(distributions[package][0]) for package in packages - OWN}
    by_others = {"markupsafe", "protobuf"}  # what jinja2 and onnx require
    assert needed <= {Requirement(line).name for line in EXTRAS["core"]} | by_others


def test_an_unpinned_installation_takes_the_newest_trio():
    newest, ranges = list(doctor.TRIOS.values())[-1], {r.name: r.specifier for r in RANGES}
    releases = {"torch": newest.torch, "torchrec": newest.torchrec, "fbgemm-gpu": newest.fbgemm}
    for name, release in releases.items():
        major, minor, _ = map(int, release.split("."))
        assert not ranges[name].contains(f"{major}.{minor + 1}.0"), name
    assert ranges["fbgemm-gpu"] == ranges["fbgemm-gpu-cpu"]


@pytest.mark.slow
def test_a_wheel_contains_all_code_and_every_data_file(tmp_path):
    source = tmp_path / "source"
    for name in ("recsys", "data_pipelines", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    files = {str(p.relative_to(source)) for p in source.glob("*/**/*") if p.is_file()}
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "-w", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("recsys-*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    in_share = f"{wheel.name.removesuffix('-py3-none-any.whl')}.data/data/share/recsys/"
    shipped = {name.removeprefix(in_share) for name in names}
    assert shipped == files - {"data_pipelines/README.md"}
    assert "recsys/reports/report.html" in shipped
    assert f"{in_share}configs/criteo_kaggle/dcn_v2.yaml" in names


def test_what_runs_without_torch_imports_requirements_of_the_core_alone():
    rooms = (
        "data_pipelines",
        "recsys/io",
        "recsys/metrics",
        "recsys/serving",
        "recsys/verification",
    )
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    pattern = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)
    code = (re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL) for path in files)
    imported = {name for text in code for name in pattern.findall(text)}
    core = {Requirement(line).name for line in PROJECT["dependencies"]} | {"yaml"}
    ours = {"recsys", "data_pipelines", "google"}  # google: protobuf, which onnx requires
    assert {"numpy", "onnx", "onnxruntime"} <= imported
    assert imported - core - ours - sys.stdlib_module_names == set()
