"""What the documentation names exists: files, anchors, commands, options and config keys."""

import ast
import re

import pytest
import typer
import yaml
from pydantic import TypeAdapter

from data_pipelines import find_recipe
from data_pipelines.recipe import Recipe, override_recipe
from recsys.cli.main import app
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides, read_yaml
from tests.docs.pages import (
    PAGES,
    ROOT,
    anchors,
    code_blocks,
    command_lines,
    inline_code,
    links,
    paths,
)

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
GENERATED = re.compile(r"reference/\w+\.md")  # pages of the site that are made by its build
COMMAND_LINES = [
    pytest.param(words, id=" ".join(words)[:60]) for page in PAGES for words in command_lines(page)
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_code_fits_the_width_of_a_page():
    wide = [
        (page.name, line)
        for page in PAGES
        if page.parent == ROOT / "docs"
        for block in code_blocks(page)
        for line in block.text.splitlines()
        if len(line) > 100
    ]
    assert wide == []


@each_page
def test_every_path_named_exists(page):
    missing = {path for path in paths(page) if not list(ROOT.glob(path))}
    assert not missing


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in links(page):
        file, _, anchor = link.partition("#")
        if GENERATED.fullmatch(file):
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readmes_tree_exists():
    tree = next(b for b in code_blocks(ROOT / "README.md") if b.text.startswith("configs/"))
    parent = ""
    for line in tree.text.splitlines():
        indent, names = re.match(r"( *)((?:\w+/ ?)+)", line).groups()
        parent = parent if indent else names.strip()
        for name in names.split():
            path = f"{parent}{name}" if indent else name
            assert (ROOT / path).is_dir(), path


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_every_command_line_is_accepted(words):
    command = COMMANDS[words[0]]
    context = command.make_context(words[0], list(words[1:]))
    overrides = context.params.get("overrides") or []
    if words[0] in ("train", "search", "plan") and context.params.get("config"):
        config = ROOT / context.params["config"]
        changes = [change for change in overrides if "embeddings.allocation=" not in change]
        if config.exists():  # not that of an example run
            validate(RunConfig, apply_overrides(read_yaml(config), changes), str(config))
    if words[0] == "prepare":
        recipe = find_recipe(str(context.params["name"]))
        override_recipe(recipe, overrides)


def yaml_blocks():
    return [
        pytest.param(yaml.safe_load(block.text), id=f"{page.name}: {block.text.splitlines()[0]}")
        for page in PAGES
        if page.name != "choosing_an_embedding.md"  # its own test builds what it shows
        for block in code_blocks(page)
        if block.language == "yaml"
    ]


@pytest.mark.parametrize("content", yaml_blocks())
def test_every_section_shown_is_valid(content):
    if content.keys() <= Recipe.model_fields.keys():
        validate(Recipe, {"name": "shown", **content}, "recipe")
        return
    assert content.keys() <= RunConfig.model_fields.keys()
    for section, value in content.items():
        TypeAdapter(RunConfig.model_fields[section].annotation).validate_python(value)


@each_page
def test_python_shown_is_python_under_test(page):
    tests = [file.read_text() for file in ROOT.glob("tests/**/*.py")]
    for block in code_blocks(page):
        for node in ast.parse(block.text).body if block.language == "python" else ():
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                shown = ast.get_source_segment(block.text, node)
                assert any(shown in text for text in tests), node.name


@each_page
def test_every_option_named_exists(page):
    for code in inline_code(page):
        match = re.match(r"recsys (\w+)\b(.*)", code)
        if match is None or match[1].isupper():
            continue
        known = {option for param in COMMANDS[match[1]].params for option in param.opts}
        known |= {o for param in COMMANDS[match[1]].params for o in param.secondary_opts}
        assert set(re.findall(r"--[\w-]+", match[2])) <= known | {"--help"}, code


@pytest.mark.parametrize("page", ["add_to_a_list.md", "add_a_method.md"])
def test_code_of_a_new_file_runs_as_it_is_shown(page):
    for block in code_blocks(ROOT / "docs" / page):
        if block.language == "python":
            exec(compile(block.text, page, "exec"), {"__name__": page})
