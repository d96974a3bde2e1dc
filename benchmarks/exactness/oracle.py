"""Do our models give FuxiCTR's logits to 1e-5, with equal weights and inputs?

    python -m benchmarks.exactness.oracle --peer-python FUXICTR_ENV/bin/python --checkout FUXICTR

FuxiCTR runs in its own environment and writes weights, inputs and logits; we load the weights into
our model, fused tables and plain ones, and compare. Exit status 1 when a difference is larger.
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
ROWS, EMBEDDING_DIM = 512, 16
CARDINALITIES = {"a": 5, "b": 40, "c": 400, "d": 1000, "e": 3, "f": 17}
SEQUENCE, SEQUENCE_CARDINALITY, MAX_LENGTH = "history", 200, 6
NUMERICALS = ("x", "y", "z")
TABLES = "embedding_layer.embedding_layer.embedding_layers"


class Case(NamedTuple):
    """A FuxiCTR model with settings of its own, and what it is in ours."""

    peer_model: str
    peer_settings: dict
    ours: dict


AUTOINT = {"name": "autoint", "residual": "identity_if_equal"}
CASES = {
    "logistic_regression": Case("lr", {}, {"name": "logistic_regression"}),
    "dcn_v2": Case("dcn_v2", {}, {"name": "dcn_v2"}),
    "dcn_v2, stacked": Case(
        "dcn_v2",
        {"model_structure": "stacked", "stacked_dnn_hidden_units": [256, 128]},
        {"name": "dcn_v2", "structure": "stacked"},
    ),
    "autoint": Case("autoint", {}, AUTOINT),
    "autoint, scaled scores": Case(
        "autoint", {"use_scale": True}, {**AUTOINT, "scale_scores": True}
    ),
    "autoint+": Case("autoint_plus", {}, {**AUTOINT, "hidden_dims": (256, 128)}),
}


def peer_features() -> dict[str, dict]:
    """FuxiCTR's feature map: sparse features first, as our models see them."""
    features: dict[str, dict] = {
        name: {"source": "", "type": "categorical", "vocab_size": cardinality}
        for name, cardinality in CARDINALITIES.items()
    }
    features[SEQUENCE] = {
        "source": "",
        "type": "sequence",
        "vocab_size": SEQUENCE_CARDINALITY,
        "padding_idx": 0,
        "max_len": MAX_LENGTH,
        "feature_encoder": "layers.MaskedAveragePooling()",
    }
    return features | {name: {"source": "", "type": "numeric"} for name in NUMERICALS}


def our_schema() -> Schema:
    features = [
        Feature(name=name, kind="categorical", column=name, cardinality=cardinality)
        for name, cardinality in CARDINALITIES.items()
    ]
    features.append(
        Feature(
            name=SEQUENCE,
            kind="sequence",
            column=SEQUENCE,
            cardinality=SEQUENCE_CARDINALITY,
            max_length=MAX_LENGTH,
        )
    )
    features += [Feature(name=name, kind="numerical", column=name) for name in NUMERICALS]
    return Schema(name="oracle", features=tuple(features), splits={})


def run_peer(arguments: argparse.Namespace, case: Case, out: Path) -> dict[str, np.ndarray]:
    """FuxiCTR's arrays: weight/…, input/…, logits."""
    script = harness.PEERS / "fuxictr_logits.py"
    command = [arguments.peer_python, script, "--checkout", arguments.checkout, "--out", out]
    command += ["--model", case.peer_model, "--set", json.dumps(case.peer_settings)]
    command += ["--features", json.dumps(peer_features()), "--rows", str(ROWS)]
    harness.run(command)
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


def build_ours(case: Case, store: str) -> CTRModel:
    is_linear = case.ours["name"] == "logistic_regression"
    width = 1 if is_linear else EMBEDDING_DIM
    embeddings = EmbeddingsConfig.model_validate(
        {
            "default": {"method": "full_table", "embedding_dim": width},
            "features": {SEQUENCE: {"pooling": "sum" if is_linear else "mean"}},
            "store": store,
        }
    )
    config = TypeAdapter(ModelConfig).validate_python(case.ours)
    optimizer = SgdConfig(learning_rate=0.1)
    device = torch.device("cpu")
    return build_ctr_model(embeddings, config, optimizer, our_schema(), seed=0, device=device)


def peer_name(ours: str) -> str:
    """The FuxiCTR parameter that is one of our network's parameters."""
    for our_part, peer_part in (
        ("model.cross.layers.", "crossnet.cross_layers."),
        ("model.attention.", "self_attention."),
        ("query_key_value.0", "W_q"),
        ("query_key_value.1", "W_k"),
        ("query_key_value.2", "W_v"),
        ("residual", "W_res"),
        ("model.head", "fc"),
        ("model.bias", "lr_layer.bias"),
    ):
        ours = ours.replace(our_part, peer_part)
    return ours


def load_weights(model: CTRModel, weights: dict[str, np.ndarray]) -> None:
    """Copies every FuxiCTR weight into its place; a weight that is left over is an error."""
    left = {name.replace(f"lr_layer.{TABLES}", TABLES): value for name, value in weights.items()}
    mlp = next((name.split(".")[0] for name in left if ".mlp." in name), "")

    def take(name: str) -> torch.Tensor:
        return torch.from_numpy(left.pop(name))

    with torch.no_grad():
        for feature, table in model.embeddings.store.weights().items():
            table.copy_(take(f"{TABLES}.{feature}.weight"))
        for name, parameter in model.network.named_parameters():
            if name == "numerical.vectors":
                columns = [take(f"{TABLES}.{feature}.weight")[:, 0] for feature in NUMERICALS]
                parameter.copy_(torch.stack(columns))
            elif parameter.numel():
                theirs = peer_name(name).replace("model.mlp.", f"{mlp}.mlp.")
                parameter.copy_(take(theirs).reshape(parameter.shape))
    if left:
        raise SystemExit(f"weights of FuxiCTR without a counterpart in our model: {sorted(left)}")


def make_batch(inputs: dict[str, np.ndarray]) -> Batch:
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    lengths = [torch.ones(ROWS, dtype=torch.int32) for _ in CARDINALITIES]
    values = [tensors[name] for name in CARDINALITIES]
    history = tensors[SEQUENCE]
    values.append(history[history > 0])
    lengths.append((history > 0).sum(1).int())
    sparse = JaggedIds(
        keys=[*CARDINALITIES, SEQUENCE],
        values=torch.cat(values).int(),
        lengths=torch.cat(lengths),
    )
    dense = torch.stack([tensors[name] for name in NUMERICALS], dim=1)
    return Batch(
        dense=dense, sparse=sparse, labels=torch.zeros(ROWS), cursor=Cursor(0, 0), global_rows=ROWS
    )


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def compare(arguments: argparse.Namespace, case: Case, folder: Path) -> dict:
    """Largest differences over all rows, by store."""
    arrays = run_peer(arguments, case, folder / "peer.npz")
    theirs = torch.from_numpy(arrays["logits"])
    result = {"rows": ROWS, "max_abs_logit": float(theirs.abs().max())}
    for store in STORES:
        model = build_ours(case, store).eval()
        load_weights(model, part(arrays, "weight/"))
        batch = model.embeddings.to_physical(make_batch(part(arrays, "input/")))
        with torch.no_grad():
            logits, _ = model(batch)
        result[f"max_abs_difference_{store}"] = float((logits - theirs).abs().max())
    return result


def to_markdown(results: dict[str, dict]) -> str:
    rows = [
        [
            name,
            f"{r['max_abs_logit']:.2f}",
            *(f"{r[f'max_abs_difference_{s}']:.1e}" for s in STORES),
        ]
        for name, r in results.items()
    ]
    heads = ["model", "largest logit", "largest difference, fused tables", "plain tables"]
    return (
        f"Logits of FuxiCTR and of ours, equal weights and inputs.\n\n{table(heads, rows)}\n\n"
        f"Largest difference {worst_of(results):.1e} of {TOLERANCE:.0e}."
    )


def worst_of(results: dict[str, dict]) -> float:
    return max(v for r in results.values() for k, v in r.items() if "difference" in k)


def main() -> None:
    arguments = harness.parser(__doc__, peer="required").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {name: compare(arguments, case, Path(folder)) for name, case in CASES.items()}
    harness.report(arguments, results, to_markdown(results))
    sys.exit(worst_of(results) > TOLERANCE)


if __name__ == "__main__":
    main()
