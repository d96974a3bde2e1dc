"""Raw rows → FuxiCTR's Parquet, by its own feature processors. Runs under FuxiCTR's own python.

The split is the one of our recipes: `numpy.random.default_rng(1).permutation(rows)` over the rows
in file order, first 80 % train, next 10 % valid, last 10 % test.
"""

import gzip
from pathlib import Path

SPLITS = ("train", "valid", "test")
CRITEO_INTEGERS = [f"I{i}" for i in range(1, 14)]
CRITEO_CATEGORIES = [f"C{i}" for i in range(1, 27)]
MOVIELENS_MAX_GENRES = 6
MOVIELENS_FILES = {
    "ratings": ("ml-1m_sample_100k_ratings.dat.gz", ["user", "movie", "rating", "timestamp"]),
    "users": ("ml-1m_users.dat.gz", ["user", "gender", "age", "occupation", "zip"]),
    "movies": ("ml-1m_movies.dat.gz", ["movie", "title", "genres"]),
}


def read_criteo(raw: Path):
    import polars as pl

    names = ["label", *CRITEO_INTEGERS, *CRITEO_CATEGORIES]
    return pl.read_csv(
        raw,
        separator="\t",
        has_header=False,
        new_columns=names,
        schema_overrides=dict.fromkeys(names, pl.Utf8),
    )


def read_avazu(raw: Path):
    import polars as pl

    frame = pl.read_csv(raw, infer_schema=False).rename({"click": "label"}).drop("id")
    # FuxiCTR derives them from `hour` into columns that must exist already
    return frame.with_columns(weekday=pl.col("hour"), weekend=pl.col("hour"))


def read_movielens(raw: Path):
    """Ratings of 4 and 5 are positive, 1 and 2 negative, 3 is dropped before the split."""
    import polars as pl

    tables = {}
    for table, (file, names) in MOVIELENS_FILES.items():
        lines = gzip.decompress((raw / file).read_bytes()).decode("latin-1").splitlines()
        tables[table] = pl.DataFrame(
            [line.split("::") for line in lines], schema=names, orient="row"
        )
    ratings = tables["ratings"].with_columns(pl.col("rating").cast(pl.Int8))
    rows = ratings.filter(pl.col("rating") != 3).with_columns(
        label=(pl.col("rating") >= 4).cast(pl.Int8)
    )
    joined = rows.join(tables["users"], on="user", how="left", maintain_order="left")
    joined = joined.join(tables["movies"], on="movie", how="left", maintain_order="left")
    return joined.drop("rating", "timestamp", "title")


def text_columns(names: list[str], **more) -> dict:
    kind = {"active": True, "dtype": "str", "type": "categorical", "fill_na": ""}
    return {"name": names, **kind, **more}


def criteo_columns() -> list[dict]:
    integers = text_columns(CRITEO_INTEGERS, preprocess="convert_to_bucket")
    return [{**integers, "dtype": "float", "fill_na": 0}, text_columns(CRITEO_CATEGORIES)]


def avazu_columns() -> list[dict]:
    plain = ["C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id"]
    plain += ["app_domain", "app_category", "device_id", "device_ip", "device_model"]
    plain += ["device_type", "device_conn_type", *(f"C{i}" for i in range(14, 22))]
    derived = [
        text_columns([name], preprocess=f"convert_{name}")
        for name in ("hour", "weekday", "weekend")
    ]
    return [*derived, text_columns(plain)]


def movielens_columns(pooling: str) -> list[dict]:
    encoder = {"mean": "layers.MaskedAveragePooling()", "sum": "layers.MaskedSumPooling()"}
    plain = ["user", "movie", "gender", "age", "occupation", "zip"]
    # its own search for the longest list ends in a numpy integer, which its JSON writer refuses
    sequence = {"type": "sequence", "splitter": "|", "max_len": MOVIELENS_MAX_GENRES}
    genres = {**text_columns(["genres"]), **sequence, "feature_encoder": encoder[pooling]}
    return [text_columns(plain), genres]


def write_splits(frame, folder: Path) -> dict[str, str]:
    """The three CSV files FuxiCTR starts from."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(1).permutation(len(frame))
    train, valid = int(0.8 * len(frame)), int(0.9 * len(frame))
    paths = {}
    for split, rows in zip(SPLITS, np.split(order, [train, valid]), strict=True):
        paths[split] = str(folder / f"{split}.csv")
        frame[rows.tolist()].write_csv(paths[split])
    return paths


def build_dataset(dataset: str, raw: Path, root: Path, min_count: int, pooling: str) -> Path:
    """The folder `root`/`dataset`, built when it is not there yet."""
    import numpy as np

    # the keras_preprocessing that its tokenizer pads with predates numpy 2
    np.unicode_ = np.str_  # noqa: NPY201
    from fuxictr.datasets.avazu import CustomizedFeatureProcessor as AvazuProcessor
    from fuxictr.datasets.criteo import CustomizedFeatureProcessor as CriteoProcessor
    from fuxictr.preprocess import FeatureProcessor
    from fuxictr.preprocess import build_dataset as build

    folder = root / dataset
    if (folder / "test.parquet").is_file():
        return folder
    read, processor, columns = {
        "criteo_kaggle": (read_criteo, CriteoProcessor, criteo_columns()),
        "avazu": (read_avazu, AvazuProcessor, avazu_columns()),
        "movielens_1m": (read_movielens, FeatureProcessor, movielens_columns(pooling)),
    }[dataset]
    csv = write_splits(read(raw), root / f"{dataset}_csv")
    encoder = processor(
        feature_cols=columns,
        label_col={"name": "label", "dtype": "float"},
        dataset_id=dataset,
        data_root=str(root),
    )
    paths = {f"{split}_data": csv[split] for split in SPLITS}
    build(encoder, **paths, data_format="csv", min_categr_count=min_count)
    return folder
