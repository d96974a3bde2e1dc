"""Describes each feature for the manifest, from the run and from the tables that were written."""

from collections.abc import Mapping
from urllib.parse import quote

from recsys.embeddings.methods.base import EmbeddingKey
from recsys.export.signatures import DENSE_INPUT, histories_of, input_names_of
from recsys.schema import Feature
from recsys.serving.features import ExportedAttention, ExportedFeature, StoredForm
from recsys.training.run_folder.trained import TrainedRun


class FeatureDescriber:
    """Feature → ExportedFeature."""

    def __init__(self, trained: TrainedRun, forms: Mapping[str, Mapping[str, StoredForm]]) -> None:
        self.config, self.schema = trained.config.embeddings, trained.schema
        self.embeddings, self.forms = trained.model.embeddings, forms
        self.histories = histories_of(self.embeddings, self.schema)
        self.inputs = input_names_of(self.embeddings, self.histories).embeddings

    def __call__(self, feature: Feature) -> ExportedFeature:
        known = feature.model_dump()
        if feature.kind == "numerical":
            method = self.config.numerical_of(feature.name)
            known |= {
                "graph_input": DENSE_INPUT,
                "dense_column": self.schema.numerical.index(feature),
                "method": method,
                "dim": self.config.default.embedding_dim if method == "vector" else 1,
            }
            return ExportedFeature.model_validate(known)
        if feature.encoding is not None and feature.encoding.kind == "vocabulary":
            known["encoding"]["file"] = quote(feature.encoding.file)
        known |= self._vectors(EmbeddingKey(feature.name))
        known |= {"pooling": self._pooling(feature), "attention": self._second(feature)}
        return ExportedFeature.model_validate(known)

    def _vectors(self, key: EmbeddingKey) -> dict[str, object]:
        return {
            "graph_input": self.inputs[key],
            "method": self.embeddings.methods[key].name,
            "dim": self.embeddings.output_dims[key],
            "forms": self.forms[key.name],
            "default_row": 0,
        }

    def _pooling(self, feature: Feature) -> str | None:
        is_pooled = feature.kind == "sequence" and feature.name not in self.histories.leaders
        return self.config.pooling_of(feature.name) if is_pooled else None

    def _second(self, feature: Feature) -> ExportedAttention | None:
        """The embedding that the feature has in another role; the manifest knows one of them."""
        keys = [k for k in self.embeddings.methods if k.feature == feature.name and k.role]
        if not keys:
            return None
        (key,) = keys
        known = {"name": key.name, "cardinality": feature.num_ids, **self._vectors(key)}
        return ExportedAttention.model_validate(known)
