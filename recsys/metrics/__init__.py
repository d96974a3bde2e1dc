"""The list of metrics: pure functions of numpy arrays `logits` (n,) and 0/1 `labels` (n,)."""

from collections.abc import Callable

from recsys.metrics.attention import AttentionByRank, compute_attention_by_rank
from recsys.metrics.auc import compute_auc
from recsys.metrics.behaviours import Behaviours
from recsys.metrics.calibration import compute_calibration
from recsys.metrics.delong import AucInterval, PairedAucTest, compare_aucs, compute_auc_interval
from recsys.metrics.grouped_auc import (
    GroupedAuc,
    PairedGroupedAuc,
    compare_grouped_aucs,
    compute_grouped_auc,
)
from recsys.metrics.log_loss import compute_log_loss
from recsys.metrics.normalized_entropy import compute_normalized_entropy
from recsys.metrics.relevance import Relevance, compute_information
from recsys.metrics.reliability import ReliabilityCurve, compute_ece, compute_reliability
from recsys.metrics.retrieval import RetrievalQuality, SupportRule, compute_retrieval_quality
from recsys.metrics.roc import compute_roc

# One number for one set of predictions; None where it is not defined (one class only).
METRICS: dict[str, Callable[..., float | None]] = {
    "auc": compute_auc,
    "log_loss": compute_log_loss,
    "normalized_entropy": compute_normalized_entropy,
    "calibration": compute_calibration,
    "ece": compute_ece,
}

__all__ = [
    "METRICS",
    "AttentionByRank",
    "AucInterval",
    "Behaviours",
    "GroupedAuc",
    "PairedAucTest",
    "PairedGroupedAuc",
    "Relevance",
    "ReliabilityCurve",
    "RetrievalQuality",
    "SupportRule",
    "compare_aucs",
    "compare_grouped_aucs",
    "compute_attention_by_rank",
    "compute_auc",
    "compute_auc_interval",
    "compute_calibration",
    "compute_ece",
    "compute_grouped_auc",
    "compute_information",
    "compute_log_loss",
    "compute_normalized_entropy",
    "compute_reliability",
    "compute_retrieval_quality",
    "compute_roc",
]
