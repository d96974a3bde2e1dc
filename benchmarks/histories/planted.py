"""Rows with histories whose best possible AUC and retrieval are known.

Each category has two independent hidden vectors. Which behaviors
matter to a target follows from the first: scores fall with the rank of a behavior, weights are
their softmax. Their effect on the click follows from the second (and from a smaller vector for
each item). So a category may matter much to another and make the click less likely, and a single
embedding has to serve both purposes (N. Feng et al., "Long-sequence
recommendation models need decoupled embeddings", ICLR 2025, §2).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import expit, softmax

from benchmarks.generated import lists_of, write_history_dataset
from recsys.metrics import compute_auc

ROWS = {"train": 150_000, "valid": 20_000, "test": 200_000}
CHUNK_ROWS = 10_000
MAX_LENGTH, MIN_LENGTH = 60, 20
NUM_CATEGORIES, ITEMS_PER_CATEGORY = 24, 20
NUM_ITEMS = NUM_CATEGORIES * ITEMS_PER_CATEGORY
RELEVANCE_RANK, MEANING_RANK = 3, 8  # hidden numbers of a category
INTERESTS, FAITHFUL = 6, 0.85  # categories of a user, share of behaviors among them
SHARPNESS, DECAY = 6.0, 1.0  # of the planted attention
STRENGTH, BASE_LOGIT = 2.4, -3.9  # of the effect of the attended behaviors


class Planted(NamedTuple):
    """The truth. relevance, meaning: (C, C) by target and behavior category. taste: (I, 4)."""

    relevance: np.ndarray
    meaning: np.ndarray
    taste: np.ndarray


def plant(seed: int) -> Planted:
    rng = np.random.default_rng([seed, 0])
    attends = unit_rows(rng.standard_normal((NUM_CATEGORIES, RELEVANCE_RANK)))
    says = unit_rows(rng.standard_normal((NUM_CATEGORIES, MEANING_RANK)))
    taste = unit_rows(rng.standard_normal((NUM_ITEMS, 4)))
    return Planted(attends @ attends.T, 2.5 * says @ says.T, taste)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw_categories(rng: np.random.Generator, interests: np.ndarray, size: int) -> np.ndarray:
    """(rows, size): mostly among each row's interests (rows, INTERESTS), else any."""
    rows = len(interests)
    chosen = interests[np.arange(rows)[:, None], rng.integers(0, INTERESTS, (rows, size))]
    anywhere = rng.integers(0, NUM_CATEGORIES, (rows, size))
    return np.where(rng.random((rows, size)) < FAITHFUL, chosen, anywhere)


def draw_items(rng: np.random.Generator, categories: np.ndarray) -> np.ndarray:
    """An item of each category, popularity falling as 1/rank."""
    drawn = np.exp(rng.random(categories.shape) * np.log(ITEMS_PER_CATEGORY + 1)) - 1
    return categories * ITEMS_PER_CATEGORY + drawn.astype(np.int64).clip(0, ITEMS_PER_CATEGORY - 1)


def planted_logits(
    planted: Planted, target: np.ndarray, items: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """(rows,): target (rows,) and items (rows, MAX_LENGTH), the last of each row at its end."""
    ranks = np.arange(MAX_LENGTH, 0, -1)
    here, there = target[:, None] // ITEMS_PER_CATEGORY, items // ITEMS_PER_CATEGORY
    scores = SHARPNESS * planted.relevance[here, there] - DECAY * np.log(ranks)
    weights = softmax(np.where(ranks <= lengths[:, None], scores, -np.inf), axis=1)
    says = planted.meaning[here, there]
    says = says + np.einsum("rd,rld->rl", planted.taste[target], planted.taste[items])
    return BASE_LOGIT + STRENGTH * (weights * says).sum(1)


def draw_rows(planted: Planted, rng: np.random.Generator, rows: int) -> tuple[pa.Table, np.ndarray]:
    """Rows as a dataset has them, ids from 1, and the logits their labels were drawn from."""
    interests = rng.integers(0, NUM_CATEGORIES, (rows, INTERESTS))
    items = draw_items(rng, draw_categories(rng, interests, MAX_LENGTH))
    target = draw_items(rng, draw_categories(rng, interests, 1))[:, 0]
    lengths = rng.integers(MIN_LENGTH, MAX_LENGTH + 1, rows)
    logits = planted_logits(planted, target, items, lengths)
    behaviors = items[np.arange(MAX_LENGTH, 0, -1) <= lengths[:, None]]  # oldest first
    table = pa.table(
        {
            "item": (target + 1).astype(np.int32),
            "category": (target // ITEMS_PER_CATEGORY + 1).astype(np.int32),
            "item_history": lists_of(behaviors + 1, lengths),
            "category_history": lists_of(behaviors // ITEMS_PER_CATEGORY + 1, lengths),
            "label": (rng.random(rows) < expit(logits)).astype(np.int8),
        }
    )
    return table, logits


def write_planted(folder: Path, seed: int, rows: dict[str, int] | None = None) -> dict[str, float]:
    """Writes the dataset; returns each split's best AUC, that of the planted logits."""
    planted, best = plant(seed), {}
    truths: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def tables(split: str, number: int, size: int) -> Iterator[pa.Table]:
        rng = np.random.default_rng([seed, number])
        for start in range(0, size, CHUNK_ROWS):
            table, logits = draw_rows(planted, rng, min(CHUNK_ROWS, size - start))
            truths.setdefault(split, []).append((logits, table["label"].to_numpy()))
            yield table

    splits = {
        name: tables(name, number, size)
        for number, (name, size) in enumerate((rows or ROWS).items(), 1)
    }
    sizes = {"item": NUM_ITEMS + 1, "category": NUM_CATEGORIES + 1}
    write_history_dataset(folder, sizes, MAX_LENGTH, splits)
    for split, parts in truths.items():
        logits, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        best[split] = compute_auc(logits, labels)
    return best
