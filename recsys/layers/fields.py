"""Inputs of a network: numericals as vectors, and fields of several widths brought to one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NumericalEmbedding(nn.Module):
    """(B, N) values → (B, N·D), value_n · vector_n (AutoInt, Song et al. 2019, §4.2)."""

    def __init__(self, num_features: int, embedding_dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(num_features, embedding_dim))
        nn.init.normal_(self.vectors, std=0.01)

    def forward(self, dense: Tensor) -> Tensor:
        return (dense[:, :, None] * self.vectors).flatten(1)  # (B, N·D)


class FieldProjection(nn.Module):
    """(B, Σd) → (B, F·D): v_f · W_f for a field of width d ≠ D, v_f itself for the others.

    W_f (d, D) has no bias and is initialized from N(0, 1/d), so that v_f · W_f has the variance of
    v_f. Fields of equal width share one batched product and one parameter, `from_<d>`.
    """

    def __init__(self, widths: Sequence[int], out_width: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.fields_of = {
            width: [i for i, own in enumerate(widths) if own == width]
            for width in sorted(set(widths) - {out_width})
        }
        for width, fields in self.fields_of.items():
            weight = nn.Parameter(torch.empty(len(fields), width, out_width))
            nn.init.normal_(weight, std=1.0 / math.sqrt(width))
            self.register_parameter(f"from_{width}", weight)

    def forward(self, vectors: Tensor) -> Tensor:
        fields = list(torch.split(vectors, self.widths, dim=1))
        for width, chosen in self.fields_of.items():
            narrow = torch.stack([fields[i] for i in chosen])  # (n, B, d)
            projected = torch.bmm(narrow, self.get_parameter(f"from_{width}"))  # (n, B, D)
            for i, field in zip(chosen, projected.unbind(), strict=True):
                fields[i] = field
        return torch.cat(fields, dim=1)


class FieldPadding(nn.Module):
    """(B, Σd) → (B, F·D): each field padded with D - d zeros; no field is wider than D."""

    def __init__(self, widths: Sequence[int], out_width: int) -> None:
        super().__init__()
        self.widths, self.missing = list(widths), [out_width - width for width in widths]

    def forward(self, vectors: Tensor) -> Tensor:
        zeros = vectors.new_zeros(vectors.shape[0], max(self.missing))
        parts = []
        split = torch.split(vectors, self.widths, dim=1)
        for field, missing in zip(split, self.missing, strict=True):
            parts.append(field)
            if missing:
                parts.append(zeros[:, :missing])
        return torch.cat(parts, dim=1)
