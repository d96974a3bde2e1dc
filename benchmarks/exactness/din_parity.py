"""Does our DIN give FuxiCTR's logits, with equal weights and histories, to 1e-5?

    python -m benchmarks.exactness.din_parity --peer-python PYTHON --checkout FUXICTR

Histories of every length from none to the longest, jagged here and padded there. Logits as when
scoring, and as when training, where Dice takes its statistics from these very rows (FuxiCTR counts
padding among them: `dice_statistics: padded`); then its moving averages. FuxiCTR runs in its own
environment. Exit status 1 when a difference is larger.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter

from benchmarks import harness
from benchmarks.exactness.oracle import part
from benchmarks.tables import table
from recsys.data.batch import Batch, Cursor
from recsys.data.jagged_ids import JaggedIds
from recsys.distributed.build import build_ctr_model
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.optimizers import SgdConfig
from recsys.models import ModelConfig
from recsys.models.ctr_model import CTRModel
from recsys.schema import Feature, Schema

TOLERANCE = 1e-5
STORES = ("fused", "plain")
ROWS, EMBEDDING_DIM, MAX_LENGTH = 512, 16, 12
TARGETS = {"user": 50, "item": 400, "category": 30, "shop": 90}
ITEMS = {"target": ["item", "category"], "history": ["item_history", "category_history"]}
SHOPS = {"target": ["shop"], "history": ["shop_history"]}


class Case(NamedTuple):
    """Pairs, and settings as FuxiCTR and as we name them."""

    pairs: list[dict[str, list[str]]]
    activation: str
    softmax: bool
    attention_dims: tuple[int, ...] = (64,)

    @property
    def peer(self) -> dict:
        name = {"relu": "ReLU", "dice": "Dice"}[self.activation]
        return {
            "din_use_softmax": self.softmax,
            "attention_hidden_units": list(self.attention_dims),
            "attention_hidden_activations": name,
            "dnn_activations": name,
        }

    @property
    def ours(self) -> dict:
        return {
            "name": "din",
            "pairs": self.pairs,
            "softmax": self.softmax,
            "target_aware": False,
            "attention_hidden_dims": self.attention_dims,
            "attention_activation": self.activation,
            "hidden_dims": (256, 128),
            "activation": self.activation,
            "dice_statistics": "padded" if self.activation == "dice" else "behaviours",
        }


CASES = {
    "ReLU": Case([ITEMS], "relu", False),
    "ReLU, softmax": Case([ITEMS], "relu", True),
    "Dice": Case([ITEMS], "dice", False),
    "Dice, softmax": Case([ITEMS], "dice", True),
    "two pairs, ReLU, softmax": Case([ITEMS, SHOPS], "relu", True),
    "two pairs, Dice, attention of two layers": Case([ITEMS, SHOPS], "dice", False, (32, 16)),
}


def cardinalities(case: Case) -> dict[str, int]:
    """By feature: targets, then the histories in the pairs' order."""
    histories = [pair for each in case.pairs for pair in zip(*each.values(), strict=True)]
    return TARGETS | {history: TARGETS[target] for target, history in histories}


def draw_inputs(case: Case) -> dict[str, np.ndarray]:
    """Ids from 0; histories (ROWS, MAX_LENGTH) with -1 behind the last behavior."""
    rng = np.random.default_rng(5)
    inputs = {name: rng.integers(0, size, ROWS) for name, size in TARGETS.items()}
    for pair in case.pairs:
        lengths = rng.integers(0, MAX_LENGTH + 1, ROWS)
        lengths[:3] = 0, 1, MAX_LENGTH
        for target, history in zip(pair["target"], pair["history"], strict=True):
            ids = rng.integers(0, TARGETS[target], (ROWS, MAX_LENGTH))
            inputs[history] = np.where(np.arange(MAX_LENGTH) < lengths[:, None], ids, -1)
    return inputs


def run_peer(
    arguments: argparse.Namespace, case: Case, inputs: dict[str, np.ndarray], folder: Path
) -> dict[str, np.ndarray]:
    """FuxiCTR's arrays: weight/…, logits, training_logits, after/…."""
    np.savez(folder / "inputs.npz", **inputs)
    script = harness.PEERS / "fuxictr_din_logits.py"
    command = [arguments.peer_python, script, "--checkout", arguments.checkout]
    command += ["--features", json.dumps(cardinalities(case)), "--pairs", json.dumps(case.pairs)]
    command += ["--set", json.dumps(case.peer)]
    command += ["--inputs", folder / "inputs.npz", "--out", folder / "outputs.npz"]
    harness.run(command)
    with np.load(folder / "outputs.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def build_ours(case: Case, store: str) -> CTRModel:
    features = [
        Feature(
            name=name,
            kind="categorical" if name in TARGETS else "sequence",
            column=name,
            cardinality=size,
            max_length=None if name in TARGETS else MAX_LENGTH,
        )
        for name, size in cardinalities(case).items()
    ]
    shared = [pair for each in case.pairs for pair in zip(*each.values(), strict=True)]
    embeddings = EmbeddingsConfig.model_validate(
        {
            "default": {"method": "full_table", "embedding_dim": EMBEDDING_DIM},
            "features": {history: {"shares_table_with": target} for target, history in shared},
            "store": store,
        }
    )
    config = TypeAdapter(ModelConfig).validate_python(case.ours)
    schema = Schema(name="parity", features=tuple(features), splits={})
    optimizer = SgdConfig(learning_rate=0.1)
    device = torch.device("cpu")
    return build_ctr_model(embeddings, config, optimizer, schema, seed=0, device=device)


def peer_name(ours: str) -> str:
    """The FuxiCTR parameter or statistic that is one of our network's."""
    for our_part, peer_part in (
        ("model.attention.", "attention_layers."),
        (".unit.mlp", ".attention_layer.mlp"),
        ("model.tail.mlp", "dnn.mlp"),
        ("running_", "bn.running_"),
    ):
        ours = ours.replace(our_part, peer_part)
    return ours


def load_weights(model: CTRModel, weights: dict[str, np.ndarray]) -> None:
    """Copies every FuxiCTR weight into its place, padding rows left out; all must find one."""
    left = dict(weights)
    with torch.no_grad():
        for feature, table in model.embeddings.store.weights().items():
            theirs = left.pop(f"embedding_layer.embedding_layers.{feature}.weight")
            table.copy_(torch.from_numpy(theirs[1:]))
        for name, value in model.network.state_dict().items():
            if value.numel():
                value.copy_(torch.from_numpy(left.pop(peer_name(name))).reshape(value.shape))
    if left:
        raise SystemExit(f"weights of FuxiCTR without a counterpart in our model: {sorted(left)}")


def make_batch(inputs: dict[str, np.ndarray]) -> Batch:
    """Jagged: what is -1 there is nothing here."""
    flat = [torch.from_numpy(ids[ids >= 0]) for ids in inputs.values()]
    lengths = [torch.from_numpy((ids.reshape(ROWS, -1) >= 0).sum(1)) for ids in inputs.values()]
    sparse = JaggedIds(
        keys=list(inputs), values=torch.cat(flat).int(), lengths=torch.cat(lengths).int()
    )
    labels, dense = torch.zeros(ROWS), torch.zeros(ROWS, 0)
    return Batch(dense=dense, sparse=sparse, labels=labels, cursor=Cursor(0, 0), global_rows=ROWS)


def largest(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float((ours - torch.from_numpy(theirs)).abs().max())


def compare(arguments: argparse.Namespace, case: Case, folder: Path) -> dict:
    """Largest differences over all rows, by store."""
    inputs = draw_inputs(case)
    arrays = run_peer(arguments, case, inputs, folder)
    result = {"rows": ROWS, "max_abs_logit": float(np.abs(arrays["logits"]).max())}
    for store in STORES:
        model = build_ours(case, store)
        load_weights(model, part(arrays, "weight/"))
        batch = model.embeddings.to_physical(make_batch(inputs))
        with torch.no_grad():
            scoring = largest(model.eval()(batch)[0], arrays["logits"])
            training = largest(model.train()(batch)[0], arrays["training_logits"])
        state = {peer_name(name): value for name, value in model.network.state_dict().items()}
        after = [largest(state[name], value) for name, value in part(arrays, "after/").items()]
        result[f"max_abs_difference_{store}"] = scoring
        result[f"max_abs_difference_training_{store}"] = training
        result[f"max_abs_difference_averages_{store}"] = max(after, default=0.0)
    return result


def worst_of(results: dict[str, dict], kind: str = "") -> float:
    start = f"max_abs_difference{kind}"
    return max(v for r in results.values() for k, v in r.items() if k.startswith(start))


def to_markdown(results: dict[str, dict]) -> str:
    kinds = ("fused", "plain", "training_plain", "averages_plain")
    heads = ["", "largest logit", "scoring, fused tables", "plain tables"]
    rows = [
        [name, f"{r['max_abs_logit']:.2f}", *(f"{r[f'max_abs_difference_{k}']:.1e}" for k in kinds)]
        for name, r in results.items()
    ]
    text = table([*heads, "training, plain tables", "Dice's moving averages"], rows)
    return (
        f"FuxiCTR's DIN and ours, equal weights, {ROWS} rows, histories of 0 to {MAX_LENGTH} "
        f"behaviors: largest differences of the logits.\n\n{text}\n\n"
        f"Largest difference {worst_of(results):.1e} of {TOLERANCE:.0e}."
    )


def main() -> None:
    arguments = harness.parser(__doc__, peer="required").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {name: compare(arguments, case, Path(folder)) for name, case in CASES.items()}
    harness.report(arguments, results, to_markdown(results))
    sys.exit(worst_of(results) > TOLERANCE)


if __name__ == "__main__":
    main()
