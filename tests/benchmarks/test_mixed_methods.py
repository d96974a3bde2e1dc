"""The shipped configs of mixed embedding methods."""

import pytest
import yaml

from benchmarks.harness import CONFIGS
from benchmarks.quality.mixed_methods import DATA


def methods_in(section: object) -> set[str]:
    """The names under the key `method`, wherever they are."""
    if isinstance(section, list):
        return set().union(*map(methods_in, section))
    if not isinstance(section, dict):
        return set()
    own = {section["method"]} if "method" in section else set()
    return own.union(*map(methods_in, section.values()))


@pytest.mark.parametrize("data", DATA)
def test_a_shipped_config_mixes_at_least_five_methods_within_a_budget(data):
    content = yaml.safe_load((CONFIGS / data / "mixed_methods.yaml").read_text())
    assert len(methods_in(content["embeddings"])) >= 5
    assert content["embeddings"]["budget"]
