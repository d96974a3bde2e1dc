"""Finds the first NaN or infinity: in a feature's rows, in weights, gradients or outputs.

Nothing here communicates with other ranks: each rank checks its own shards, at any time.
"""

import math
from collections.abc import Callable
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, distributed, nn

from recsys.compat.torch_internals import norms
from recsys.data.batch import Batch, Cursor
from recsys.embeddings.collection import POOLED
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel

CHUNK_ROWS = 1 << 20
# cached, because collecting them costs more than the check itself
_parameters: WeakKeyDictionary[CTRModel, list[nn.Parameter]] = WeakKeyDictionary()
LOWER_THE_RATE = (
    "lower train.dense_optimizer.learning_rate or train.embedding_optimizer.learning_rate; "
    "the last checkpoint is not affected"
)


def check_loss(loss: Tensor, model: CTRModel, batch: Batch) -> None:
    """Stops training if the loss () is not finite; names the first cause."""
    if not torch.isfinite(loss):
        _refuse("the training loss", first_non_finite(model, batch), batch.cursor, loss.item())


def check_gradients(model: CTRModel, cursor: Cursor) -> None:
    """Stops before an optimizer uses a gradient that is not finite.

    One pass over the dense gradients, and one synchronization on a GPU. The tables' gradients exist
    only during backward: a bad one is detected by the next loss, or by `check_state`.
    """
    if model not in _parameters:
        _parameters[model] = model.dense_parameters()
    gradients = [p.grad for p in _parameters[model] if p.grad is not None]
    if not gradients or math.isfinite(_sum_up(gradients)):
        return
    # backward runs from the last layer to the first, then to the embeddings of the inputs
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = {id(parameter) for parameter in model.network.model.parameters()}
    inputs_first = sorted(model.dense_parameters(), key=lambda p: id(p) in layers)
    for parameter in reversed(inputs_first):
        if parameter.grad is not None and not is_finite(parameter.grad):
            _refuse("a gradient", f"the gradient of {names[id(parameter)]}", cursor, None)


def _sum_up(gradients: list[Tensor]) -> float:
    """A number that is not finite if an element is not, and rarely otherwise."""
    if gradients[0].is_cuda:
        return norms(gradients).sum().item()
    return sum(gradient.sum().item() for gradient in gradients)


def check_state(model: CTRModel, cursor: Cursor) -> None:
    """Refuses to save weights that are not finite."""
    culprit = _bad_rows(model, None) or _bad_weights(model)
    if culprit:
        _refuse("a weight", culprit, cursor, None)


def first_non_finite(model: CTRModel, batch: Batch) -> str | None:
    """The first that is not finite: a feature's rows, a layer's weights, or a layer's output.

    Outputs need a forward pass, and with several ranks all of them: then the largest weight is
    named instead.
    """
    find_output = _large_weight if distributed.is_initialized() else _bad_output
    return _bad_rows(model, batch) or _bad_weights(model) or find_output(model, batch)


def is_finite(values: Tensor) -> bool:
    """True without NaN and infinity; only the extremes are inspected."""
    return values.numel() == 0 or all(
        torch.isfinite(torch.stack(torch.aminmax(chunk))).all() for chunk in _chunks(values)
    )


def _chunks(values: Tensor) -> tuple[Tensor, ...]:
    """Rows in chunks, because a mask of a whole table might not fit in memory."""
    return torch.split(values, CHUNK_ROWS) if values.dim() else (values,)


def _refuse(what: str, culprit: str | None, cursor: Cursor, got: object) -> None:
    raise RecsysError(
        f"{what} is not finite",
        where=f"epoch {cursor.epoch + 1}, batch {cursor.batch + 1:,}"
        + (f"; first non-finite values in {culprit}" if culprit else ""),
        got=got,
        fix=LOWER_THE_RATE,
    )


def _bad_rows(model: CTRModel, batch: Batch | None) -> str | None:
    """The first table of this rank with rows that are not finite, by feature, row and id."""
    for shard in model.embeddings.store.shards():
        if is_finite(shard.weight):
            continue
        bad = [~torch.isfinite(chunk).all(dim=1) for chunk in _chunks(shard.weight)]
        rows = torch.cat(bad).nonzero().squeeze(1) + shard.first_row
        return _describe_rows(model, shard.table.name, rows, batch)
    return None


def _describe_rows(model: CTRModel, table: str, rows: Tensor, batch: Batch | None) -> str:
    methods = model.embeddings.methods
    keys = [
        k for k, method in methods.items() if any(look.table == table for look in method.lookups)
    ]
    pooled = model.embeddings.lookups.get(POOLED)
    if batch is not None and pooled is not None:
        for key in keys:
            for look in methods[key].lookups if key in pooled.methods else ():
                used = batch.lookups[POOLED].rows[look.key].values()
                used = used[torch.isin(used, rows.to(used.dtype))]
                if look.table == table and len(used):
                    return _describe_row(model, key, table, int(used[0]), len(rows))
    return _describe_row(model, keys[0], table, int(rows[0]), len(rows))


def _describe_row(model: CTRModel, key: EmbeddingKey, table: str, row: int, bad_rows: int) -> str:
    place = "id" if model.embeddings.methods[key].is_plain_table else "row"
    others = f" and {bad_rows - 1} other rows" if bad_rows > 1 else ""
    return f"the table {table!r} of feature {key.name!r}, {place} {row}{others}"


def _bad_weights(model: CTRModel) -> str | None:
    """The first parameter or buffer outside the tables."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        is_dense = not name.startswith("embeddings.store.") and tensor.is_floating_point()
        if is_dense and not is_finite(tensor.detach()):
            return f"the weights {name}"
    return None


def _large_weight(model: CTRModel, _: Batch) -> str | None:
    """Some layer's output, and the weights that are its most likely cause."""
    dense = {id(parameter) for parameter in model.dense_parameters()}
    weights = [(name, p.detach()) for name, p in model.named_parameters() if id(p) in dense]
    weights += [(f"table {s.table.name!r}", s.weight) for s in model.embeddings.store.shards()]
    largest = [(_largest(weight), name) for name, weight in weights if weight.numel()]
    value, name = max(largest, default=(0.0, ""))
    return f"a layer's output; the largest weight is {value:.1e} in {name}" if name else None


def _largest(weight: Tensor) -> float:
    extremes = [torch.stack(torch.aminmax(chunk)).abs().max() for chunk in _chunks(weight)]
    return torch.stack(extremes).max().item()


def _bad_output(model: CTRModel, batch: Batch) -> str | None:
    """The first layer of the network whose output on this batch is not finite."""
    bad: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def look(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and not is_finite(output):
                bad.append(name)

        return look

    layers = [(n, m) for n, m in model.network.named_modules() if n and not list(m.children())]
    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return f"the output of {bad[0]}" if bad else None
