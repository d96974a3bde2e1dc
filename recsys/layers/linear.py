"""Linear layers that use oneDNN if torch's default matrix product is slower."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from recsys.compat.torch_internals import has_onednn, onednn_linear

IS_ONEDNN_FASTER = has_onednn() and torch.backends.cpu.get_cpu_capability() == "AVX512"
MANY_ROWS = 2**15  # from here on, compiling a kernel for a single batch is worth it
MOST_COPIED = 2**23  # floats: for larger ones the copies of the weight's gradient cost more


class Linear(nn.Linear):
    """y = x Wᵀ + b; (…, in_dim) → (…, out_dim).

    On a CPU torch multiplies float32 matrices with MKL, which has no AVX-512 kernels for AMD.
    oneDNN, which is part of every torch build, has them. On other devices and in exported graphs
    this is nn.Linear.
    """

    def forward(self, values: Tensor) -> Tensor:
        return multiply(values, self.weight, self.bias)


class JaggedLinear(Linear):
    """Linear for values whose number of rows varies between batches."""

    def forward(self, values: Tensor) -> Tensor:
        return multiply_jagged(values, self.weight, self.bias)


def multiply(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Values (…, in_dim) · weight (out_dim, in_dim)ᵀ + bias (out_dim,) → (…, out_dim)."""
    return _multiply(values, weight, bias, fewest_rows=1)


def multiply_jagged(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `multiply`, for varying B: oneDNN compiles a kernel for each B, so it needs many rows."""
    return _multiply(values, weight, bias, fewest_rows=MANY_ROWS)


def _multiply(values: Tensor, weight: Tensor, bias: Tensor | None, fewest_rows: int) -> Tensor:
    if (
        torch.compiler.is_compiling()  # exporting too
        or not IS_ONEDNN_FASTER
        or values.device.type != "cpu"
        or values.dtype != torch.float32
        or torch.is_autocast_enabled("cpu")
        or values.numel() < fewest_rows * values.shape[-1]
    ):
        return F.linear(values, weight, bias)
    rows = values.reshape(-1, values.shape[-1]).contiguous()
    product: Tensor = _Product.apply(rows, weight.contiguous(), bias)  # type: ignore[no-untyped-call]  # torch.autograd is untyped
    return product if values.dim() == 2 else product.view(*values.shape[:-1], len(weight))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.has_bias = bias is not None  # type: ignore[attr-defined]  # autograd's context takes attributes
        return _by_onednn(values, weight, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors  # type: ignore[attr-defined]  # torch sets it
        gradient = gradient.contiguous()
        has_bias: bool = ctx.has_bias  # type: ignore[attr-defined]  # set above
        if torch.is_grad_enabled():  # for second derivatives
            of_bias = gradient.sum(0) if has_bias else None
            return gradient @ weight, gradient.t() @ values, of_bias
        of_values = _by_onednn(gradient, weight.t()) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]  # torch sets it
        if gradient.numel() + values.numel() > MOST_COPIED:
            return of_values, gradient.t() @ values, gradient.sum(0) if has_bias else None
        of_weight, of_bias = torch.ops.aten.mkldnn_linear_backward_weights(
            gradient.to_mkldnn(), values.to_mkldnn(), weight, has_bias
        )
        return of_values, of_weight, of_bias if has_bias else None


def _by_onednn(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Arguments must be contiguous: for other strides oneDNN is a thousand times slower."""
    return onednn_linear(values, weight, bias)


def build_linear(
    in_dim: int, out_dim: int, *, bias: bool = True, kind: type[Linear] = Linear
) -> Linear:
    """Glorot-normal weights and a zero bias."""
    linear = kind(in_dim, out_dim, bias=bias)
    nn.init.xavier_normal_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
