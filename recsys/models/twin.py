"""TWIN: one attention for both stages (Chang et al. 2023, KDD), on one shared embedding.

Without its projections and cross features: the model that DARE's authors take apart. With
`target_aware` and the positions of `TwoStageModelConfig` it is DARE without decoupling.
"""

from typing import Literal

from recsys.models.two_stage import TwoStageModelConfig


class TWINConfig(TwoStageModelConfig):
    """Searches and weighs behaviors by the vectors that are pooled."""

    name: Literal["twin"] = "twin"
