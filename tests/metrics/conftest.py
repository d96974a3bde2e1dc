import numpy as np
import pytest


@pytest.fixture
def tied_predictions():
    """2,000 float32 logits of both signs, many of them equal, and labels that depend on them."""
    rng = np.random.default_rng(7)
    logits = (rng.integers(-40, 40, 2000) / 16).astype(np.float32)
    labels = (rng.random(2000) < 1 / (1 + np.exp(1 - logits))).astype(np.int8)
    return logits, labels
