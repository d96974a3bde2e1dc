"""FuxiCTR's DIN: its feature map and settings for pairs of targets and histories.

Its histories are padded with id 0, whose vector is zero; an id of ours is one more there.
"""

from pathlib import Path

from fuxictr_model import build_model, load_feature_map, settings_of, write_feature_map

Pairs = list[dict[str, list[str]]]


def table_owners(pairs: Pairs) -> dict[str, str]:
    """History feature → the target feature whose table it reads."""
    return {
        history: target
        for pair in pairs
        for target, history in zip(pair["target"], pair["history"], strict=True)
    }


def feature_map_of(
    features: dict[str, int], max_lengths: dict[str, int], owners: dict[str, str]
) -> dict[str, dict]:
    """FuxiCTR's fields in this order; `features` are our cardinalities, histories' included."""
    fields: dict[str, dict] = {}
    for name, cardinality in features.items():
        field = {"source": "", "type": "categorical", "padding_idx": 0}
        if name in max_lengths:
            field |= {"type": "sequence", "max_len": max_lengths[name]}
        if name in owners:
            field["share_embedding"] = owners[name]
        fields[name] = {**field, "vocab_size": cardinality + 1}
    return fields


def din_settings(pairs: Pairs, overrides: dict) -> dict:
    """All settings; several features of one pair are a tuple there, and JSON has none."""

    def together(names: list[str]) -> str | tuple[str, ...]:
        return names[0] if len(names) == 1 else tuple(names)

    return settings_of("din", overrides) | {
        "din_target_field": [together(pair["target"]) for pair in pairs],
        "din_sequence_field": [together(pair["history"]) for pair in pairs],
    }


def build_din(fields: dict[str, dict], settings: dict, folder: Path):
    """(feature map, model)."""
    write_feature_map(folder / "features", fields)
    feature_map = load_feature_map(folder / "features", settings)
    return feature_map, build_model("din", feature_map, settings, folder)


def give_logits(model) -> None:
    """From now on its outputs are logits: the sigmoid ends its last MLP."""
    import torch

    model.dnn.mlp[-1] = torch.nn.Identity()
