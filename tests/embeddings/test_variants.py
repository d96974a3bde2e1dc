"""The contract for choices of a method that its one example does not make."""

import pytest

from recsys.embeddings.id_mapping.partitions import ChineseRemainder, MixedRadix, QuotientRemainder
from recsys.embeddings.methods.base import BaseMethodConfig
from recsys.embeddings.methods.compositional import CompositionalConfig
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.methods.mixed_dimension import MixedDimensionConfig
from recsys.embeddings.methods.unified import UnifiedConfig
from tests.embeddings.contract_cases import contract_cases
from tests.embeddings.examples import CARDINALITY, DIM

QR = QuotientRemainder(num_remainders=7)
VARIANTS: dict[str, BaseMethodConfig] = {
    "hashed, shared out": HashedConfig(embedding_dim=DIM, total_rows=30),
    "unified, sum": UnifiedConfig(embedding_dim=DIM, num_rows=40, num_chunks=2, combine="sum"),
    "unified, exact": UnifiedConfig(embedding_dim=DIM, num_rows=40, exact_below=CARDINALITY),
    "add": CompositionalConfig(embedding_dim=DIM, partitions=QR, operation="add"),
    "concat": CompositionalConfig(
        embedding_dim=DIM, partitions=MixedRadix(sizes=(5, 10)), operation="concat"
    ),
    "multiply, three": CompositionalConfig(embedding_dim=DIM, partitions=ChineseRemainder(k=3)),
    "path": CompositionalConfig(
        embedding_dim=DIM,
        partitions=QuotientRemainder(num_remainders=2),
        operation="path_mlp",
        hidden_dim=1,
    ),
    "dim 3": MixedDimensionConfig(embedding_dim=DIM, dim=3),
    "anchored": MixedDimensionConfig(embedding_dim=DIM, temperature=0.3),
    "full below": CompositionalConfig(embedding_dim=DIM, partitions=QR, full_below=CARDINALITY),
}
EXAMPLE_ALONE = ("initial_variance", "an_empty_batch", "row_numbers_stay")


@pytest.mark.parametrize(
    ("promise", "arguments"),
    [c for c in contract_cases() if not any(name in c.id for name in EXAMPLE_ALONE)],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_keeps_the_promises(variant, promise, arguments):
    promise(method=VARIANTS[variant], **arguments)
