"""The native form as files: each physical table once, and the tensors that rules name."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.methods.base import EmbeddingMethod
from recsys.export.materialized_tables import TENSOR_NAME, file_name
from recsys.lookup_spec import Rule
from recsys.serving.features import NativeForm, PhysicalTable


def write_native(
    embeddings: FeatureEmbeddings, rules: Mapping[str, Rule], files: Mapping[str, str], folder: Path
) -> tuple[dict[str, PhysicalTable], dict[str, NativeForm]]:
    """Writes what the rules of the features need; returns tables by name, forms by feature.

    `files`: those of materialized features. A plain table is the same in both forms, and its file
    is not written a second time.
    """
    known = {
        method.lookups[0].table: files[name]
        for name, method in embeddings.methods.items()
        if method.is_plain_table and name in files
    }
    names = {look.table: None for rule in rules.values() for look in rule.lookups}
    weights = embeddings.store.weights()
    tables = {}
    for name in names:
        weight = weights[name].detach().cpu().contiguous()
        file = known.get(name, f"native/tables/{file_name(name)}.safetensors")
        if name not in known:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            save_file({TENSOR_NAME: weight}, folder / file)
        rows, dim = weight.shape
        tables[name] = PhysicalTable(file=file, num_rows=rows, dim=dim)
    forms = {
        name: NativeForm(
            rule=rule, tensors=_write_tensors(name, rule, embeddings.methods[name], folder)
        )
        for name, rule in rules.items()
    }
    return tables, forms


def _write_tensors(feature: str, rule: Rule, method: EmbeddingMethod, folder: Path) -> str | None:
    if not rule.tensors():
        return None
    own = dict([*method.named_parameters(), *method.named_buffers()])
    file = f"native/tensors/{file_name(feature)}.safetensors"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    save_file({n: own[n].detach().cpu().clone() for n in sorted(rule.tensors())}, folder / file)
    return file
