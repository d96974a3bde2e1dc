"""DARE: attention and representation have embeddings of their own (Feng et al. 2025, ICLR, §3).

From the paper: the two tables, each shared by target and history; search and weights by
⟨k, q⟩/√A; the target-aware representation. From the authors' code: the positions and their own
scale, [v, h, h · v] in front of the tail, the second head over the whole history. Two outputs
and a softmax there are one logit here. The target's own position, the same in every row, scales
h · v but is no input of the tail by itself: a constant column is what the bias already is.
"""

from typing import ClassVar, Literal

from pydantic import PositiveInt

from recsys.models.two_stage import TwoStageModelConfig


class DAREConfig(TwoStageModelConfig):
    """TWIN with separate embeddings for attention (`embeddings.roles.search`)."""

    attention: ClassVar[Literal["required", "refused"]] = "required"
    name: Literal["dare"] = "dare"
    # width of the scored vector of a rank; null: position_dim
    attention_position_dim: PositiveInt | None = None

    def attention_position_dim_of(self, position_dim: int) -> int:
        return self.attention_position_dim or position_dim
