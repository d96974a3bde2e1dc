"""Mutated configs, raw files, datasets, runs and exports: one message or a sound result, always.

`benchmarks/exactness/mutations.py` runs thousands of them; here each target gets a few.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mutations.cases import run_case
from tests.mutations.sandbox import Sandbox
from tests.mutations.targets import build_targets

NAMES = (
    "recipe",
    "raw text",
    "config",
    "override",
    "schema",
    "data files",
    "run, trees",
    "run, files",
    "run, resumed",
    "export, manifest",
    "export, files",
)
EXAMPLES = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def targets(tmp_path_factory, sandbox):
    return build_targets(tmp_path_factory.mktemp("pristine"), sandbox.work)


def test_every_target_is_tried(targets):
    assert set(targets) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_unchanged_target_is_accepted(sandbox, targets, name):
    target = targets[name]
    verdict = sandbox.run(target.arguments(sandbox.fresh(target.pristine)))
    assert (verdict.code, verdict.fault) == (0, None), verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_a_mutation_is_refused_with_one_message_or_accepted(sandbox, targets, name):
    target = targets[name]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.mutations, st.booleans())
    def check(mutation, remakes_checksums):
        verdict = run_case(sandbox, target, mutation, remakes_checksums=remakes_checksums)
        assert verdict.fault is None, f"{mutation}: {verdict.fault}\n{verdict.message}"

    check()
