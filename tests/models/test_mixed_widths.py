"""Fields of several widths in front of a model that needs one: projected, padded or refused."""

import pytest
import torch

from recsys.config.base import validate
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.errors import RecsysError
from recsys.layers.fields import FieldPadding, FieldProjection
from recsys.models.autoint import AutoIntConfig
from recsys.models.base import Field
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.network import build_network, projected_floats
from recsys.schema import Feature, Schema, Standardize

WIDTHS = [3, 8, 2, 3, 8]
WIDTH_OF = {"a": 3, "b": 8, "c": 2}
DIMS = {EmbeddingKey(name): width for name, width in WIDTH_OF.items()}


def autoint(**options) -> AutoIntConfig:
    return AutoIntConfig(num_layers=1, attention_dim=4, **options)


@pytest.fixture
def schema():
    sparse = [Feature(name=n, kind="categorical", column=n, cardinality=9) for n in WIDTH_OF]
    price = Feature(
        name="price", kind="numerical", column="price", transform=Standardize(mean=0.0, std=1.0)
    )
    return Schema(name="x", features=(price, *sparse), splits={})


def embeddings(dim: int = 8) -> EmbeddingsConfig:
    return EmbeddingsConfig(default=FullTableConfig(embedding_dim=dim))


@pytest.mark.parametrize("out_width", [8, 5])
def test_projected_fields_are_products_with_a_matrix_each(out_width):
    projection, vectors = FieldProjection(WIDTHS, out_width), torch.randn(4, sum(WIDTHS))
    used = dict.fromkeys(set(WIDTHS), 0)
    fields = []
    for field in vectors.split(WIDTHS, dim=1):
        width = field.shape[1]
        if width == out_width:
            fields.append(field)
            continue
        fields.append(field @ getattr(projection, f"from_{width}")[used[width]])
        used[width] += 1
    torch.testing.assert_close(projection(vectors), torch.cat(fields, 1))
    floats = sum(width * out_width for width in WIDTHS if width != out_width)
    assert sum(p.numel() for p in projection.parameters()) == floats


def test_a_projection_keeps_the_variance():
    torch.manual_seed(0)
    projection = FieldProjection([4, 64] * 200, 16)
    projected = projection(torch.randn(50, 68 * 200)).unflatten(1, (200, 2, 16))
    assert projected[:, :, 0].var().item() == pytest.approx(1.0, rel=0.05)
    assert projected[:, :, 1].var().item() == pytest.approx(1.0, rel=0.05)


def test_padded_fields_are_followed_by_zeros():
    vectors = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    padded = FieldPadding([1, 3, 2], 3)(vectors)
    assert padded.tolist() == [[1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]]


@pytest.mark.parametrize("how", ["project", "pad"])
@pytest.mark.parametrize("field_dim", [None, 8, 10])
def test_the_network_scores_what_the_model_scores_of_equal_widths(how, field_dim, schema):
    config = autoint(mixed_widths=how, field_dim=field_dim)
    network = build_network(config, embeddings(), schema, DIMS)
    vectors, dense = torch.randn(5, sum(DIMS.values())), torch.randn(5, 1)
    numerical = dense * network.numerical.vectors
    equal = network.projection(torch.cat([vectors, numerical], 1))
    assert equal.shape == (5, 4 * (field_dim or 8))
    torch.testing.assert_close(network.score(vectors, dense), network.model(equal, dense[:, :0]))
    network.score(vectors, dense).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_numerical_of_another_width_is_projected_too(schema):
    config = autoint(mixed_widths="project")
    network = build_network(config, embeddings(dim=4), schema, DIMS)
    assert network.projection.from_4.shape == (1, 4, 8)
    assert projected_floats(config, embeddings(dim=4), schema, DIMS) == {"a": 3 * 8, "c": 2 * 8}


def test_only_fields_of_another_width_pay_and_only_for_projections(schema):
    def pays(model, **dims):
        widths = DIMS | {EmbeddingKey(name): dim for name, dim in dims.items()}
        return projected_floats(model, embeddings(), schema, widths)

    assert pays(autoint(mixed_widths="project")) == {"a": 3 * 8, "c": 2 * 8}
    assert pays(autoint(mixed_widths="project", field_dim=2)) == {"a": 6, "b": 16}
    assert pays(autoint(mixed_widths="pad")) == pays(DCNv2Config()) == {}
    assert pays(autoint(mixed_widths="project"), a=8, c=8) == {}


def test_fields_of_one_width_and_models_that_concatenate_get_no_layer(schema):
    same = dict.fromkeys(DIMS, 8)
    assert build_network(autoint(mixed_widths="pad"), embeddings(), schema, same).projection is None
    assert build_network(DCNv2Config(), embeddings(), schema, DIMS).projection is None


def test_a_choice_leaves_the_other_initial_weights_as_they_were(schema):
    def weights(config, dims):
        torch.manual_seed(3)
        return build_network(config, embeddings(), schema, dims).state_dict()

    plain = weights(autoint(), dict.fromkeys(DIMS, 8))
    projected = weights(autoint(mixed_widths="project"), DIMS)
    assert all(torch.equal(projected[name], value) for name, value in plain.items())
    assert set(projected) - set(plain) == {"projection.from_2", "projection.from_3"}


def test_a_refusal_names_both_options(schema):
    with pytest.raises(RecsysError, match=r"(?s)b has 8.*mixed_widths: project .* or pad"):
        build_network(autoint(), embeddings(), schema, DIMS)


def test_a_field_is_not_cut_to_be_padded():
    fields = [Field(name, dim) for name, dim in WIDTH_OF.items()]
    with pytest.raises(RecsysError, match=r"(?s)b is wider.*at least 8.*project"):
        autoint(mixed_widths="pad", field_dim=4).common_dim(fields)
    assert autoint(mixed_widths="project", field_dim=4).common_dim(fields) == 4


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (AutoIntConfig, {"field_dim": 8}, "project or pad, and not with refuse"),
        (AutoIntConfig, {"mixed_widths": "cut"}, "'refuse', 'project' or 'pad'"),
        (DCNv2Config, {"mixed_widths": "pad"}, "unknown key 'mixed_widths'"),
    ],
)
def test_wrong_choices_are_refused(model, options, message):
    with pytest.raises(RecsysError, match=message):
        validate(model, options, "x.yaml")
