"""A random FuxiCTR model: weights, inputs and logits for `benchmarks.exactness.oracle`.

    PEER_PYTHON fuxictr_logits.py --checkout FUXICTR --model autoint --features JSON --out FILE.npz

Runs under FuxiCTR's own python. The file holds `weight/<parameter>`, `input/<feature>`, `logits`.
"""

import argparse
import json
import tempfile
from pathlib import Path

from fuxictr_model import (
    MODELS,
    add_to_path,
    build_model,
    load_feature_map,
    settings_of,
    write_feature_map,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="a clone of reczoo/FuxiCTR")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--features", type=json.loads, required=True, help="its feature map")
    parser.add_argument("--set", type=json.loads, default={}, help="settings that differ, as JSON")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def randomise(model) -> None:
    """Every weight far from its small initial value, so that every term of a logit counts."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding_layer" in name:
                parameter.normal_(0.0, 0.5)
            elif parameter.dim() < 2:
                parameter.uniform_(-0.2, 0.2)


def clear_padding(model, features: dict[str, dict]) -> None:
    """Row 0 of a sequence's table is padding: it must stay zero to be left out of the mean."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            feature = name.split(".")[-2]
            if features.get(feature, {}).get("type") == "sequence":
                parameter[0].zero_()


def draw_inputs(features: dict[str, dict], rows: int) -> dict:
    import torch

    inputs = {}
    for name, spec in features.items():
        if spec["type"] == "numeric":
            inputs[name] = torch.randn(rows)
        elif spec["type"] == "categorical":
            inputs[name] = torch.randint(spec["vocab_size"], (rows,))
        else:
            ids = torch.randint(1, spec["vocab_size"], (rows, spec["max_len"]))
            lengths = torch.randint(1, spec["max_len"] + 1, (rows, 1))
            inputs[name] = torch.where(torch.arange(spec["max_len"]) < lengths, ids, 0)
    return inputs


def main() -> None:
    arguments = parse_arguments()
    add_to_path(arguments.checkout.resolve(), arguments.model)
    import numpy as np
    import torch

    torch.manual_seed(arguments.seed)
    settings = settings_of(arguments.model, arguments.set)
    with tempfile.TemporaryDirectory() as folder:
        write_feature_map(Path(folder) / "features", arguments.features)
        feature_map = load_feature_map(Path(folder) / "features", settings)
        model = build_model(arguments.model, feature_map, settings, Path(folder))
    randomise(model)
    clear_padding(model, arguments.features)
    model.output_activation = torch.nn.Identity()  # logits, not probabilities
    inputs = draw_inputs(arguments.features, arguments.rows)
    with torch.no_grad():
        logits = model.eval()(inputs)["y_pred"].squeeze(1)
    arrays = {f"weight/{name}": value.numpy() for name, value in model.state_dict().items()}
    arrays |= {f"input/{name}": value.numpy() for name, value in inputs.items()}
    np.savez(arguments.out, logits=logits.numpy(), **arrays)


if __name__ == "__main__":
    main()
