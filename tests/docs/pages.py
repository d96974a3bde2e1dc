"""The documentation as data: its pages, links, code blocks and command lines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "configs/README.md")
PAGES = sorted(
    [*(ROOT / name for name in NAMED), ROOT / "data_pipelines/README.md", *ROOT.glob("docs/*.md")]
)
TOP_FOLDERS = "recsys|data_pipelines|configs|tests|benchmarks|docs|tools|requirements"
PATH = re.compile(rf"(?<![\w./-])(?:{TOP_FOLDERS})/[\w.*/-]*[\w*]")


class CodeBlock(NamedTuple):
    """A fenced block: its language (may be empty) and its text."""

    language: str
    text: str


def code_blocks(page: Path) -> list[CodeBlock]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [CodeBlock(*block) for block in found]


def inline_code(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def links(page: Path) -> list[str]:
    """Targets of the links to other files, without those to the web."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "code", prose))
    return [target for target in targets if not target.startswith("http")]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.lower()).split() for heading in headings)
    return {"-".join(heading) for heading in words}


def paths(page: Path) -> set[str]:
    """Files and folders of the repository that a page names in code."""
    texts = [*inline_code(page), *(block.text for block in code_blocks(page))]
    return {path for text in texts if "<" not in text for path in PATH.findall(text)}


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of each `recsys …` line in a block of shell commands."""
    for block in code_blocks(page):
        if block.language != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for place, word in enumerate(words):
                if Path(word).name == "recsys":
                    yield words[place + 1 :]
                    break
