"""What mkdocs calls: adds the generated pages, and points links at pages instead of files.

Pages link to files of the repository (`../configs/…`, `../benchmarks/results/…`), so that a reader
of the repository can follow them. On the site these links lead to the generated page that shows the
file; a link to a file that no page shows becomes plain text.
"""

import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs loads hooks by path

from tools.docs import pages  # noqa: E402  needs the path that is set above

log = logging.getLogger("mkdocs.hooks")  # a warning fails a strict build
EXTERNAL = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:)?//[^"]*"')
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#:]+)?(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the generated pages and the pictures of the records."""
    for uri, text in pages.generated_pages(ROOT).items():
        files.append(File.generated(config, uri, content=text))
    for picture in sorted((ROOT / pages.RESULTS).glob("*.svg")):
        uri = f"reference/records/{picture.name}"
        files.append(File.generated(config, uri, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Rewrites a page's links to files of the repository."""
    uri = page.file.src_uri
    folder = posixpath.dirname(pages.source_of(uri))

    def rewritten(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        if target is None:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        shown = pages.page_of(path)
        if shown is None:
            return match["text"]
        page_uri, _, own_anchor = shown.partition("#")
        relative = posixpath.relpath(page_uri, posixpath.dirname(uri) or ".")
        anchor = f"#{own_anchor}" if own_anchor else anchor
        return f"[{match['text']}]({relative}{anchor})"

    return LINK.sub(rewritten, markdown).replace(" ± ", "\u00a0±\u00a0")  # figures do not break


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """A page must load nothing from the network."""
    for match in EXTERNAL.finditer(output):
        log.warning("%s loads from the network: %s", page.file.src_uri, match[0])
    return output
