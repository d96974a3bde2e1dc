"""The choices in docs/choosing_an_embedding.md are accepted, and built on such features."""

from pathlib import Path

import pytest
import yaml

from recsys.config.base import validate
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import build_methods
from recsys.schema import Feature, Schema
from tests.embeddings.criteo import CRITEO

PAGE = Path(__file__).parents[2] / "docs" / "choosing_an_embedding.md"
SIZES = {**CRITEO, "item": 4_000_000, "seen": 4_000_000}
FEATURES = tuple(
    Feature(name=name, kind="categorical", column=name, cardinality=size)
    for name, size in SIZES.items()
)


def shown() -> dict[str, dict[str, object]]:
    blocks = PAGE.read_text().split("```yaml\n")[1:]
    return {k: v for block in blocks for k, v in yaml.safe_load(block.split("```")[0]).items()}


@pytest.mark.parametrize("method", shown())
def test_the_choices_shown_are_accepted(method):
    content = {
        "default": {"method": "full_table", "embedding_dim": 4},
        "features": shown()[method],
    }
    config = validate(EmbeddingsConfig, content, "test")
    methods = build_methods(config, Schema(name="x", features=FEATURES, splits={}))
    assert method in {built.name for built in methods.values()}
