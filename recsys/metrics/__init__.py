"""THE LIST of metrics: what reports, validations and `train.monitor` know."""

from recsys.metrics.attention.behaviors import Behaviors
from recsys.metrics.attention.by_rank import AttentionByRank, compute_attention_by_rank
from recsys.metrics.attention.relevance import Relevance, compute_information
from recsys.metrics.attention.retrieval import (
    RetrievalQuality,
    SupportRule,
    compute_retrieval_quality,
)
from recsys.metrics.auc import AUC, compute_auc
from recsys.metrics.calibration import CALIBRATION, compute_calibration
from recsys.metrics.grouped_auc import (
    GAUC,
    GroupedAuc,
    PairedGroupedAuc,
    compare_grouped_aucs,
    compute_grouped_auc,
)
from recsys.metrics.intervals.delong import (
    AucInterval,
    PairedAucTest,
    compare_aucs,
    compute_auc_interval,
)
from recsys.metrics.log_loss import LOG_LOSS, compute_log_loss
from recsys.metrics.metric import Measured, Metric
from recsys.metrics.normalized_entropy import NORMALIZED_ENTROPY, compute_normalized_entropy
from recsys.metrics.reliability import ECE, ReliabilityCurve, compute_ece, compute_reliability
from recsys.metrics.roc import compute_roc

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        AUC,
        LOG_LOSS,
        NORMALIZED_ENTROPY,
        CALIBRATION,
        ECE,
        GAUC,
    )
}


def validation_metrics(monitor: str) -> list[Metric]:
    """What each validation computes: the monitored metric, and those marked `at_validation`."""
    return [m for m in METRICS.values() if m.at_validation or m.name == monitor]


__all__ = [
    "METRICS",
    "AttentionByRank",
    "AucInterval",
    "Behaviors",
    "GroupedAuc",
    "Measured",
    "Metric",
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
    "validation_metrics",
]
