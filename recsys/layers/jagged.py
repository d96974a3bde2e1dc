"""Sums, softmax and top-k within each row of a History, without a padded (B, T, D) block.

Exported graphs are the exception: they gather such blocks, with T the longest history of the
batch, because ONNX has no operator that sums segments of different lengths.

Results are deterministic on CPU and CUDA. Rows without behaviors give zeros.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from recsys.compat.torch_internals import assume
from recsys.layers.history import History


def expand(values: Tensor, history: History) -> Tensor:
    """Rows' values (B, D) → (L, D): each behavior gets the value of its row."""
    if torch.compiler.is_exporting():
        return values.index_select(0, history.rows)
    return _Expand.apply(values, history.rows, history.starts)  # type: ignore[no-untyped-call]  # torch.autograd is untyped


def pool(vectors: Tensor, history: History, weights: Tensor | None = None) -> Tensor:
    """Behaviors' vectors (L, D) → their sum in each row (B, D), weighted by `weights` (L,)."""
    if torch.compiler.is_exporting():  # onnxruntime has no embedding_bag
        weighted = vectors if weights is None else vectors * weights[:, None]
        return _gathered(weighted, history.sources[:, : _longest(history)], 0.0).sum(1)
    return _Pool.apply(vectors, weights, history.rows, history.starts)  # type: ignore[no-untyped-call]  # torch.autograd is untyped


def to_block(values: Tensor, history: History, fill: float | bool) -> Tensor:
    """Scalars (L,) → (B, T), a row's most recent behavior first, `fill` after its oldest."""
    if torch.compiler.is_exporting():
        return _gathered(values, history.sources, fill)
    num_rows, longest = history.lengths.shape[0], history.max_length
    block = values.new_full((num_rows * longest,), fill).scatter(0, history.places, values)
    return block.view(num_rows, longest)


def from_block(block: Tensor, history: History) -> Tensor:
    """Scalars (B, T) → those of behaviors (L,); the inverse of `to_block`."""
    return block.flatten().gather(0, history.places)


def softmax(scores: Tensor, history: History, chosen: Tensor | None = None) -> Tensor:
    """Scores (L,) → weights (L,) that sum to 1 in each row that has any.

    `chosen` (L,) bool: all others get weight 0.
    """
    lowest = torch.finfo(scores.dtype).min  # not -inf: rows without behaviors must stay finite
    if chosen is not None:
        scores = scores.masked_fill(~chosen, lowest)
    weights = from_block(torch.softmax(to_block(scores, history, lowest), dim=1), history)
    return weights if chosen is None else weights * chosen


def top_k(scores: Tensor, history: History, k: int) -> Tensor:
    """(L,) bool: the k highest scores (L,) of each row; ties prefer the most recent."""
    return from_block(_top_k_of_block(to_block(scores.detach(), history, -torch.inf), k), history)


def ranked_top_k(scores: Tensor, history: History, k: int) -> tuple[Tensor, Tensor]:
    """Ranks (B, k) int64 and scores (B, k) of each row's k highest scores (L,), highest first.

    Of equal scores the most recent comes first. A row with fewer behaviors: rank 0, score -inf.
    """
    block = to_block(scores.detach(), history, -torch.inf)  # (B, T)
    num_rows, longest = block.shape
    ages = torch.arange(longest, device=block.device)
    chosen = _top_k_of_block(block, k) & (block > -torch.inf)
    # positions of the chosen, most recent first; `longest` if there are fewer than k
    places = torch.where(chosen, ages, longest).topk(min(k, longest), dim=1, largest=False).values
    found = torch.cat([block, block.new_full((num_rows, 1), -torch.inf)], 1).gather(1, places)
    found, order = found.sort(dim=1, descending=True, stable=True)
    ranks = (places.gather(1, order) + 1) * (found > -torch.inf)
    missing = (0, max(k - longest, 0))
    padded = torch.nn.functional.pad(found, missing, value=-torch.inf)
    return torch.nn.functional.pad(ranks, missing), padded


def _gathered(values: Tensor, sources: Tensor, fill: float | bool) -> Tensor:
    """Values (L, …) at `sources` (B, T) → (B, T, …); `fill` if a source is L.

    Exported graphs gather instead of scattering: onnxruntime's scatter adds to one row from several
    threads and loses updates.
    """
    missing = values.new_full((1, *values.shape[1:]), fill)
    found = torch.cat([values, missing]).index_select(0, sources.flatten())
    return found.view(*sources.shape, *values.shape[1:])


def _longest(history: History) -> int:
    """Length of the batch's longest history, which a block need not exceed."""
    longest = torch.cat([history.lengths, history.lengths.new_zeros(1)]).max().item()
    assume(longest >= 0)
    assume(longest <= history.max_length)
    return longest  # type: ignore[return-value]  # int64, so an int, or a symbol of one


def _top_k_of_block(block: Tensor, k: int) -> Tensor:
    """(B, T) → (B, T) bool, true for the k highest of each row; ties prefer the first."""
    if k >= block.shape[1]:
        return torch.ones_like(block, dtype=torch.bool)
    lowest = block.topk(k, dim=1).values[:, -1:]  # (B, 1)
    above, level = block > lowest, block == lowest
    still_free = k - above.sum(1, keepdim=True)
    return above | (level & (level.cumsum(1) <= still_free))


class _Expand(torch.autograd.Function):
    """Gather; autograd's gradient of it is 5 × slower on the CPU and not deterministic on CUDA."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(starts)
        return values.index_select(0, rows)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (starts,) = ctx.saved_tensors  # type: ignore[attr-defined]  # torch sets it
        return _sum(gradient, starts, None), None, None


class _Pool(torch.autograd.Function):
    """Weighted sum in each row; unlike autograd's gradient of a bag, this one need not sort."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, vectors: Tensor, weights: Tensor | None, rows: Tensor, starts: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*((rows,) if weights is None else (rows, vectors, weights)))
        return _sum(vectors, starts, weights)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, *weighted = ctx.saved_tensors  # type: ignore[attr-defined]  # torch sets it
        expanded = gradient.index_select(0, rows)  # (L, D)
        if not weighted:
            return expanded, None, None, None
        vectors, weights = weighted
        of_weights = torch.linalg.vecdot(vectors, expanded)
        if torch.is_grad_enabled():  # for second derivatives
            return expanded * weights[:, None], of_weights, None, None
        return expanded.mul_(weights[:, None]), of_weights, None, None


def _sum(vectors: Tensor, starts: Tensor, weights: Tensor | None) -> Tensor:
    """Vectors (L, D), index of each row's first behavior (B,) → sums (B, D), added in order."""
    if len(vectors) == 0 or len(starts) == 0:
        return vectors.new_zeros(len(starts), vectors.shape[1])
    order = torch.arange(len(vectors), device=vectors.device)
    bags = torch.embedding_bag(vectors.contiguous(), order, starts, False, 0, False, weights)
    return bags[0]
