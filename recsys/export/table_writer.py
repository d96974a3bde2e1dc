"""Writes the tables of a trained model in the chosen forms."""

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.errors import RecsysError, did_you_mean
from recsys.serving.features import StoredForm
from recsys.serving.table_forms import BOTH, FORMS, form_choices
from recsys.serving.table_forms.base import (
    Floats,
    TableFiles,
    TableForm,
    Tensors,
    TrainedEmbedding,
)

# `both` leaves out rows for each id if they would take more bytes; a server must hold them.
MATERIALIZED_LIMIT = 16 << 30
FLOAT_BYTES = 4


class WrittenTables(NamedTuple):
    """The written forms of each embedding, by form; notes on what was left out."""

    forms: dict[str, dict[str, StoredForm]]
    notes: tuple[str, ...]


def write_tables(
    embeddings: FeatureEmbeddings, shared_tables: Mapping[str, str], choice: str, folder: Path
) -> WrittenTables:
    """Writes every embedding in the chosen form, or in another one if it has no such form.

    Args:
        embeddings: of the trained model.
        shared_tables: feature → the feature whose table it reads.
        choice: a form of the list, or `both`.
        folder: the new export.

    Raises:
        RecsysError: if there is no such form.
    """
    trained = trained_embeddings(embeddings, shared_tables)
    wanted = _wanted_forms(choice)
    too_large = _too_large(trained, wanted)
    names = {e.name: _forms_of(e, wanted, too_large) for e in trained}
    files = TableFiles(folder)
    written = {
        (embedding.name, form.name): form.write(embedding, files)
        for form in FORMS.values()  # in order: later forms may share the files of earlier ones
        for embedding in trained
        if form.name in names[embedding.name]
    }
    forms = {name: {form: written[name, form] for form in of} for name, of in names.items()}
    notes = [
        f"{e.name}: {method.name} has no {form.name} form"
        for e, method in zip(trained, embeddings.methods.values(), strict=True)
        for form in wanted
        if not form.can_hold(e)
    ]
    if too_large:
        size = sum(too_large.values()) / 2**30
        notes.append(
            f"{', '.join(too_large)}: not materialized, which would take {size:,.0f} GiB "
            "(`--tables materialized` does it)"
        )
    return WrittenTables(forms, tuple(notes))


def _wanted_forms(choice: str) -> list[TableForm]:
    if choice not in form_choices():
        raise RecsysError(
            f"unknown table form {choice!r}",
            where="--tables",
            expected=", ".join(form_choices()),
            fix=did_you_mean(choice, form_choices()),
        )
    if choice == BOTH:
        return [form for form in FORMS.values() if form.is_default]
    return [FORMS[choice]]


def _forms_of(
    embedding: TrainedEmbedding, wanted: Iterable[TableForm], too_large: Collection[str]
) -> list[str]:
    """The forms to write it in: the first of the list if no wanted form can hold it."""
    is_large = embedding.name in too_large
    held = [form for form in wanted if form.can_hold(embedding)]
    names = [form.name for form in held if not (is_large and form.has_row_per_id)]
    return names or [next(iter(FORMS))]


def _too_large(trained: Iterable[TrainedEmbedding], wanted: list[TableForm]) -> dict[str, int]:
    """Compressed embeddings → materialized bytes, if another wanted form makes them optional."""
    if {form.has_row_per_id for form in wanted} != {True, False}:
        return {}
    sizes = {
        embedding.name: embedding.num_ids * embedding.dim * FLOAT_BYTES
        for embedding in trained
        if embedding.rule is not None and embedding.plain_table is None
    }
    return sizes if sum(sizes.values()) > MATERIALIZED_LIMIT else {}


def trained_embeddings(
    embeddings: FeatureEmbeddings, shared_tables: Mapping[str, str]
) -> list[TrainedEmbedding]:
    """Every embedding of the model, as what table forms are written from."""
    weights = embeddings.store.weights()
    read_table = cache(lambda name: _to_numpy(weights[name]))

    def describe(key: EmbeddingKey) -> TrainedEmbedding:
        method = embeddings.methods[key]
        own = dict([*method.named_parameters(), *method.named_buffers()])

        def tensors(names: Collection[str]) -> Tensors:
            return {tensor: _to_numpy(own[tensor]) for tensor in names}

        is_own = next(method.parameters(), None) is not None
        owner = key if is_own else _owner(key, shared_tables, embeddings.methods)
        return TrainedEmbedding(
            name=key.name,
            owner=owner.name,
            num_ids=method.cardinality,
            dim=method.output_dim,
            rule=method.rule(),
            plain_table=method.lookups[0].table if method.is_plain_table else None,
            vectors=lambda: _to_numpy(embeddings.materialize(*owner)),
            table=read_table,
            tensors=tensors,
        )

    return [describe(key) for key in embeddings.methods]


def _owner(
    key: EmbeddingKey, shared_tables: Mapping[str, str], known: Collection[EmbeddingKey]
) -> EmbeddingKey:
    """The embedding whose table it reads."""
    owner = key._replace(feature=shared_tables.get(key.feature, key.feature))
    return owner if owner in known else key


def _to_numpy(tensor: Tensor) -> Floats:
    return tensor.detach().cpu().contiguous().numpy()
