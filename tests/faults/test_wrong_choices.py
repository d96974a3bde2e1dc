"""Commands and configs that a user got wrong: one message, exit code 2, no run folder."""

import pytest

from tests.faults.commands import files_below, run

WRONG_OVERRIDES = {
    "unknown section": ("trian.epochs=1", "unknown key 'trian'", "did you mean 'train'?"),
    "unknown key": ("train.epoch=1", "train.epoch", "did you mean 'epochs'?"),
    "unknown key of the method": ("embeddings.default.embeding_dim=8", "did you mean 'embedding_d"),
    "unknown key of the model": ("model.hiden_dims=[8]", "did you mean 'hidden_dims'?"),
    "unknown key of the data": ("data.batch_size=8", "unknown key 'batch_size'"),
    "unknown model": ("model.name=dcnv2", "unknown name 'dcnv2'", "did you mean 'dcn_v2'?"),
    "unknown method": ("embeddings.default.method=hashd", "did you mean 'hashed'?"),
    "unknown optimiser": ("train.dense_optimizer.name=adan", "train.dense_optimizer.name", "adan"),
    "unknown table optimiser": ("train.embedding_optimizer.name=adagrad", "rowwise_adagrad"),
    "unknown device": ("train.device=gpu", "train.device", "'cuda'", "gpu"),
    "unknown precision": ("train.precision=fp16", "train.precision", "'bf16'"),
    "unknown feature with a method of its own": (
        "embeddings.features={colour: {method: full_table, embedding_dim: 8}}",
        "'colour'",
        "did you mean 'color'?",
    ),
    "unknown feature that shares a table": (
        "embeddings.features.histori.shares_table_with=item",
        "histori",
    ),
    "unknown feature whose table is shared": (
        "embeddings.features.history.shares_table_with=itm",
        "itm",
    ),
    "unknown pooled feature": (
        "embeddings.features={histroy: {pooling: sum}}",
        "did you mean 'history'?",
    ),
    "unknown numerical feature": ("embeddings.features={prize: {numerical: raw}}", "'price'"),
    "unknown slice": ("report.slices=[colr]", "did you mean 'color'?"),
    "a slice by a number": ("report.slices=[price]", "'price' cannot be reported", "numerical"),
    "a slice by a sequence": ("report.slices=[history]", "'history' cannot be reported"),
    "a word for a number": ("data.global_batch_size=many", "data.global_batch_size", "many"),
    "a fraction for a count": ("train.epochs=1.5", "train.epochs", "1.5"),
    "a list for a number": ("train.seed=[1]", "train.seed", "[1]"),
    "a number for a section": ("train=3", "train", "3"),
    "zero epochs": ("train.epochs=0", "train.epochs", "greater than 0"),
    "a negative batch size": ("data.global_batch_size=-1", "greater than 0", "-1"),
    "a negative learning rate": ("train.dense_optimizer.learning_rate=-1", "greater than 0"),
    "a learning rate that is no number": ("train.dense_optimizer.learning_rate=.nan", "finite"),
    "an infinite learning rate": ("train.embedding_optimizer.learning_rate=.inf", "finite"),
    "both epochs and steps": ("train.steps=5", "either train.epochs or train.steps"),
    "neither epochs nor steps": ("train.epochs=null", "either train.epochs or train.steps"),
    "clipping of fused tables": ("train.gradient_clip_norm=1.0", "store plain"),
    "more buckets than ids": (
        "embeddings.features={item: {method: hashed, embedding_dim: 8, num_buckets: 80}}",
        "item",
        "full_table",
    ),
    "a shared table of another vocabulary": (
        "embeddings.features.history.shares_table_with=color",
        "history cannot read color's table",
    ),
    "a shared table that is shared itself": (
        "embeddings.features={history: {shares_table_with: item}, "
        "item: {shares_table_with: history}}",
        "shares the table of another feature itself",
    ),
    "a model that needs one width": (
        "embeddings={default: {method: full_table, embedding_dim: 8}, "
        "features: {item: {method: full_table, embedding_dim: 4}}}",
        "model={name: autoint, attention_dim: 8}",
        "one width",
    ),
    "an override without a value": ("train.epochs", "section.key=value"),
    "an override without a key": ("=3", "section.key=value"),
    "an override that is no YAML": ("train.epochs=[1", "invalid YAML"),
    "an override nested 3,000 deep": (".".join("a" * 3000) + "=1", "nested too deeply"),
    "an override of a huge integer": ("train.seed=1" + "0" * 30, "train.seed", "64 bits"),
    "no data set there": ("data.path=nowhere", "nowhere is not a dataset", "recsys prepare"),
}


@pytest.mark.parametrize("choice", WRONG_OVERRIDES.values(), ids=WRONG_OVERRIDES)
def test_a_wrong_choice_is_explained_before_anything_is_written(config, tmp_path, choice):
    overrides = [text for text in choice if "={" in text] or choice[:1]
    words = [text for text in choice if text not in overrides]
    outcome = run("train", config, *overrides, "--out", tmp_path / "run")
    assert outcome.is_refusal(*words)
    assert files_below(tmp_path) == ["config.yaml"]


WRONG_FILES = {
    "empty": (b"", "is not a config"),
    "a list": (b"- 1\n", "is not a config"),
    "a key twice": (b"train: {epochs: 1, seed: 0, seed: 1}\n", "duplicate key 'seed'"),
    "a bracket that is not closed": (b"data: {path: [\n", "invalid YAML", "line 2"),
    "a tab for spaces": (b"data:\n\tpath: x\n", "invalid YAML"),
    "an object of Python": (b"data: !!python/object/apply:os.system [exit 1]\n", "invalid YAML"),
    "bytes that are no text": (b"data: \xff\xfe\n", "not UTF-8 text"),
    "bytes with a zero": (b"data: \x00\n", "invalid YAML"),
    "a list for a key": (b"? [1, 2]\n: 3\n", "invalid YAML"),
    "a section missing": (b"data: {path: x, global_batch_size: 1}\n", "is missing"),
    "a date for a key": (b"2020-01-01: 3\n", "a key must be text"),
    "deep recursion": (b"[" * 1500, "nested too deeply"),
    "an anchor in itself": (b"data: &a {path: *a}\n", "nested too deeply"),
    "a date that does not exist": (b"train: {seed: 2020-99-99}\n", "invalid YAML value"),
    "an integer of 6,000 digits": (b"train: {seed: " + b"9" * 6000 + b"}\n", "invalid YAML value"),
    "an integer of 100 bits": (b"train: {seed: 1" + b"0" * 30 + b"}\n", "train.seed", "64 bits"),
}


@pytest.mark.parametrize("content", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_is_no_config_is_explained(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content[0])
    assert run("train", path, "--out", tmp_path / "run").is_refusal(str(path), *content[1:])
    assert files_below(tmp_path) == ["config.yaml"]


WRONG_COMMANDS = {
    "train without a config": ("train --out {tmp}/run", "needs a config"),
    "train without --out": ("train {config}", "--out"),
    "train with a config that is not there": ("train {tmp}/no.yaml --out {tmp}/run", "no.yaml"),
    "train with a folder for a config": ("train {tmp} --out {tmp}/run", "not a regular file"),
    "train into a file": ("train {config} --out {config}", "config.yaml"),
    "train into a folder that is not empty": ("train {config} --out {tmp}", "not empty"),
    "resume what was never begun": ("train --resume {tmp}/run", "not found"),
    "resume a folder that is no run": ("train {config} --resume {tmp}/run", "no run to resume"),
    "evaluate what is no run": ("evaluate {tmp}/run", "not a run folder"),
    "export what is no run": ("export {tmp}/run --out {tmp}/export", "not a run folder"),
    "verify what is no export": ("verify {tmp} --data {tmp}", "not an export"),
    "compare what are no runs": ("compare {tmp} {tmp}", "{tmp}"),
    "prepare an unknown data set": ("prepare criteo --raw x --out {tmp}/d", "criteo_kaggle"),
    "prepare without raw files": ("prepare criteo_kaggle --out {tmp}/d", "--raw"),
    "prepare a raw file that is not there": (
        "prepare criteo_kaggle --raw {tmp}/no.tsv --out {tmp}/d",
        "no.tsv",
    ),
}


@pytest.mark.parametrize(("command", "words"), WRONG_COMMANDS.values(), ids=WRONG_COMMANDS)
def test_a_wrong_command_is_explained(config, tmp_path, command, words):
    names = {"config": config, "tmp": tmp_path}
    outcome = run(*command.format(**names).split())
    assert outcome.is_refusal(words.format(**names))
    assert files_below(tmp_path) == ["config.yaml"]
