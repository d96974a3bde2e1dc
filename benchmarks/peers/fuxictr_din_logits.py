"""FuxiCTR's DIN with random weights on given rows, for `benchmarks.exactness.din_parity`.

    PEER_PYTHON fuxictr_din_logits.py --checkout FUXICTR --features JSON --pairs JSON \
        --inputs IN.npz --out OUT.npz

Runs under FuxiCTR's own python. IN: an array of our ids by feature, histories (rows, longest) with
-1 behind the last behavior. OUT: `weight/<parameter>` and Dice's running statistics, `logits` as
when scoring, `training_logits` with Dice's statistics from these rows, `after/<statistic>`.
"""

import argparse
import json
import tempfile
from pathlib import Path

from fuxictr_din import build_din, din_settings, feature_map_of, give_logits, table_owners
from fuxictr_model import add_to_path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="a clone of reczoo/FuxiCTR")
    parser.add_argument("--features", type=json.loads, required=True, help="cardinalities of ours")
    parser.add_argument("--pairs", type=json.loads, required=True)
    parser.add_argument("--set", type=json.loads, default={}, help="settings that differ, as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def randomise(model) -> None:
    """Every number far from its initial value, so that every term of a logit counts."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding_layer" in name:
                parameter.normal_(0.0, 0.5)
                parameter[0].zero_()  # padding
            elif name.endswith("alpha"):
                parameter.uniform_(-0.5, 0.5)
            elif parameter.dim() < 2:
                parameter.uniform_(-0.2, 0.2)
        for name, statistic in model.named_buffers():
            if name.endswith("running_mean"):
                statistic.uniform_(-0.3, 0.3)
            elif name.endswith("running_var"):
                statistic.uniform_(0.5, 2.0)


def statistics_of(model) -> dict:
    return {
        name: value.numpy().copy() for name, value in model.named_buffers() if "running" in name
    }


def main() -> None:
    arguments = parse_arguments()
    add_to_path(arguments.checkout.resolve(), "din")
    import numpy as np
    import torch

    torch.manual_seed(arguments.seed)
    with np.load(arguments.inputs, allow_pickle=False) as arrays:
        inputs = {name: torch.from_numpy(arrays[name].astype(np.int64) + 1) for name in arrays}
    lengths = {name: ids.shape[1] for name, ids in inputs.items() if ids.dim() == 2}
    fields = feature_map_of(arguments.features, lengths, table_owners(arguments.pairs))
    with tempfile.TemporaryDirectory() as folder:
        settings = din_settings(arguments.pairs, arguments.set)
        _, model = build_din(fields, settings, Path(folder))
    randomise(model)
    give_logits(model)
    weights = {f"weight/{name}": value.numpy() for name, value in model.state_dict().items()}
    weights |= {f"weight/{name}": value for name, value in statistics_of(model).items()}
    with torch.no_grad():
        logits = model.eval()(inputs)["y_pred"].squeeze(1).numpy()
        training_logits = model.train()(inputs)["y_pred"].squeeze(1).numpy()
    after = {f"after/{name}": value for name, value in statistics_of(model).items()}
    shared = table_owners(arguments.pairs)
    unwanted = ("num_batches_tracked", *(f".{history}.weight" for history in shared))
    weights = {name: value for name, value in weights.items() if not name.endswith(unwanted)}
    np.savez(arguments.out, logits=logits, training_logits=training_logits, **weights, **after)


if __name__ == "__main__":
    main()
