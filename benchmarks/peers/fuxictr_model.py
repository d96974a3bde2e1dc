"""FuxiCTR's models, built from its checkout. Runs under FuxiCTR's own python, never under ours."""

import json
import sys
from pathlib import Path

# The settings of the comparison.
COMMON = {
    "embedding_dim": 16,
    "optimizer": "adam",
    "loss": "binary_crossentropy",
    "learning_rate": 1e-3,
    "batch_size": 2048,
    "net_dropout": 0,
    "batch_norm": False,
    "metrics": ["AUC", "logloss"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "early_stop_patience": 2,
    "reduce_lr_on_plateau": True,
    "save_best_only": True,
    "eval_steps": None,
}
REGULARIZERS = {"embedding_regularizer": 1e-5, "net_regularizer": 0}
DCN_V2 = {
    **REGULARIZERS,
    "model_structure": "parallel",
    "num_cross_layers": 3,
    "parallel_dnn_hidden_units": [256, 128],
    "stacked_dnn_hidden_units": [],
}
AUTOINT = {
    **REGULARIZERS,
    "attention_layers": 3,
    "num_heads": 2,
    "attention_dim": 64,
    "use_residual": True,
    "use_scale": False,
    "use_wide": False,
    "layer_norm": False,
    "dnn_hidden_units": [],
}
DIN = {
    **REGULARIZERS,
    "dnn_hidden_units": [256, 128],
    "dnn_activations": "ReLU",
    "attention_hidden_units": [64],
    "attention_hidden_activations": "ReLU",
    "attention_dropout": 0,
    "din_use_softmax": False,
}
# our name → (class and folder in its model zoo, settings of its own)
MODELS = {
    "lr": ("LR", {"regularizer": 1e-5}),
    "dcn_v2": ("DCNv2", DCN_V2),
    "autoint": ("AutoInt", AUTOINT),
    "autoint_plus": ("AutoInt", {**AUTOINT, "dnn_hidden_units": [256, 128]}),
    "din": ("DIN", DIN),
}


def add_to_path(checkout: Path, model: str) -> None:
    """Makes `fuxictr` and the model zoo's `src` of this model importable."""
    zoo = checkout / "model_zoo" / MODELS[model][0]
    if not zoo.is_dir():
        sys.exit(f"{zoo} is not there: --checkout must be a clone of reczoo/FuxiCTR")
    sys.path[:0] = [str(checkout), str(zoo)]


def settings_of(model: str, overrides: dict) -> dict:
    """Everything that is passed to the model's constructor, bar paths."""
    return {**COMMON, **MODELS[model][1], **overrides}


def write_feature_map(folder: Path, features: dict[str, dict]) -> None:
    """`feature_map.json` for ids that are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "dataset_id": folder.name,
        "num_fields": len(features),
        "total_features": 0,
        "input_length": 0,
        "labels": ["label"],
        "features": [{name: spec} for name, spec in features.items()],
    }
    (folder / "feature_map.json").write_text(json.dumps(content))


def load_feature_map(folder: Path, settings: dict):
    from fuxictr.features import FeatureMap

    feature_map = FeatureMap(folder.name, str(folder))
    feature_map.load(str(folder / "feature_map.json"), settings)
    return feature_map


def build_model(model: str, feature_map, settings: dict, work_dir: Path):
    """The model on the CPU; its checkpoint goes under `work_dir`."""
    import src

    work_dir.mkdir(parents=True, exist_ok=True)
    (work_dir / feature_map.dataset_id).mkdir(exist_ok=True)
    model_class = getattr(src, MODELS[model][0])
    return model_class(
        feature_map, model_id=model, model_root=str(work_dir), gpu=-1, verbose=0, **settings
    )
