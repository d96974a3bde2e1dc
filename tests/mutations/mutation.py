"""One change of one file: what a slip, a full disk or an attacker may have left there.

A Mutation is a plain value, so that hypothesis can shrink it and print it, and a failing case can
be typed again by hand.
"""

import copy
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from hypothesis import strategies as st

Key = str | int
Tree = dict | list

# Values of other types, at the edges, and beyond them.
HOSTILE_VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 255, -(2**31), 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63,
    -(2**63), 10**30, 0.5, -0.5, 1e-320, 1e38, 1e39, 1e308, float("inf"), float("-inf"),
    float("nan"), "", " ", "0", "1", "-1", "1e9", "nan", "null", "~", "x", "é", "\x00", "\n",
    "a\tb", "../outside/canary.txt", "../../outside/canary.parquet", "../outside", "..", ".", "/",
    "/dev/zero", "/dev/stdin", "C:\\", "%s%n", "{x}", "{{x}}", "$HOME", "*", "[a]", "^.*$", "a.b",
    "9" * 40, "9" * 5000, "x" * 5000, "2020-99-99", "\ud83d\ude00", [], [[]], {}, [None], [1, 2, 3],
    ["a", "b"], {"a": 1}, {"kind": "x"}, {"name": "x"}, {"method": "full_table"}, [[1, 2], [3]],
    {"": 0}, [0] * 1000, ["*"], [-1], [10**12], [0.1, 0.2, 0.7], [1.0], 10**12, 3 * 10**8,
]  # fmt: skip
TREE_KINDS = ("replace", "delete", "rename", "repeat", "nest", "swap")
BYTE_KINDS = ("flip", "cut", "empty", "zero", "insert", "double", "prepend", "noise")
FILE_KINDS = ("remove", "folder", "link_out", "link_self", "link_zero", "fifo", "huge")
INSERTS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"PK\x03\x04", b"\n\n", b"\r", b'"',
    b"'", b"\t", b",", b";", b"|", b"\xe9", b"1e400", b"nan", b"-0", b"9" * 400, b"x" * 100_000,
    b"{", b"[", b"}",
]  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """`kind` at `at` (a path of keys, or a fraction of the file) of the file `part`."""

    part: str
    kind: str
    at: tuple[Key, ...] | float = ()
    value: object = None

    @property
    def place(self) -> str:
        """What was changed, without list positions: mutations of one place are of one kind."""
        if not isinstance(self.at, tuple):
            return self.part
        return f"{self.part}: {'.'.join(k for k in self.at if isinstance(k, str)) or 'top level'}"


def mutations_of_tree(part: str, tree: Tree) -> st.SearchStrategy[Mutation]:
    """Of any value in a YAML or JSON file."""
    return st.builds(
        Mutation,
        st.just(part),
        st.sampled_from(TREE_KINDS),
        st.sampled_from(list(paths_of(tree))),
        st.sampled_from(HOSTILE_VALUES),
    )


def mutations_of_bytes(part: str) -> st.SearchStrategy[Mutation]:
    """Of any file's bytes."""
    fractions = st.floats(0, 1, width=32)
    return st.builds(
        Mutation, st.just(part), st.sampled_from(BYTE_KINDS), fractions, st.sampled_from(INSERTS)
    )


def mutations_of_file(part: str) -> st.SearchStrategy[Mutation]:
    """Of what the file is."""
    return st.builds(Mutation, st.just(part), st.sampled_from(FILE_KINDS), st.just(0.0))


def paths_of(tree: object, path: tuple[Key, ...] = ()) -> Iterator[tuple[Key, ...]]:
    """The paths of all values below a tree's top; of a list's items the first three."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:3])
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from paths_of(value, (*path, key))


def apply(mutation: Mutation, folder: Path, outside: Path) -> None:
    """Changes the file `mutation.part` below `folder`; `outside` must stay untouched."""
    path = folder / mutation.part
    if mutation.kind in TREE_KINDS:
        is_yaml = path.suffix == ".yaml"
        tree = yaml.safe_load(path.read_text()) if is_yaml else json.loads(path.read_text())
        path.write_text(_dump(mutated(tree, mutation), is_yaml=is_yaml))
    elif mutation.kind in BYTE_KINDS:
        path.write_bytes(mutated_bytes(path.read_bytes(), mutation))
    else:
        _replace(path, mutation.kind, outside)


def mutated(tree: Tree, mutation: Mutation) -> Tree:
    """A changed copy of the tree."""
    tree = copy.deepcopy(tree)
    *parents, last = mutation.at
    node = tree
    for key in parents:
        node = node[key]
    value = node[last]
    match mutation.kind:
        case "delete":
            del node[last]
        case "rename" if isinstance(node, dict):
            node[str(mutation.value)] = node.pop(last)
        case "repeat" | "rename":
            node[last] = [value] * 1000
        case "nest":
            node[last] = functools.reduce(lambda inner, _: [inner], range(60), value)
        case "swap":
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            other = keys[(keys.index(last) + 1) % len(keys)]
            node[last], node[other] = node[other], node[last]
        case _:
            node[last] = mutation.value
    return tree


def mutated_bytes(content: bytes, mutation: Mutation) -> bytes:
    """A changed copy of the bytes."""
    place = int(mutation.at * max(len(content) - 1, 0))
    head, tail, insert = content[:place], content[place:], bytes(mutation.value)
    match mutation.kind:
        case "flip":
            return head + bytes([tail[0] ^ 0x10]) + tail[1:] if tail else b"\x10"
        case "cut":
            return head
        case "empty":
            return b""
        case "zero":
            return head + bytes(len(tail[:64])) + tail[64:]
        case "insert":
            return head + insert + tail
        case "double":
            return head + tail[:200] + tail
        case "prepend":
            return insert + content
        case _:
            return head + insert * 3 + tail[len(insert) * 3 :]


def _dump(tree: Tree, *, is_yaml: bool) -> str:
    return yaml.safe_dump(tree, sort_keys=False) if is_yaml else json.dumps(tree)


def _replace(path: Path, kind: str, outside: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "link_out":
            path.symlink_to(outside / f"canary{path.suffix}")
        case "link_self":
            path.symlink_to(path)
        case "link_zero":
            path.symlink_to("/dev/zero")
        case "fifo":
            os.mkfifo(path)
        case "huge":
            path.touch()
            os.truncate(path, size + 2**43)
