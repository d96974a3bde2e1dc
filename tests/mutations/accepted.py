"""Why damage that a command accepts is harmless. What is not listed here counts as a failure."""

from tests.mutations.mutation import TREE_KINDS, Mutation

CHOICE = "the result is another valid choice: a default, or a value that the key allows"
VALUE = "one value of one row is another valid value, or white space at the file's end"
REASONS = {
    "recipe": CHOICE,
    "config": CHOICE,
    "override": CHOICE,
    "raw text": VALUE,
}


def reason_for(target: str, mutation: Mutation) -> str | None:
    """The reason, or None if no one has given one."""
    is_whole = mutation.kind in (*TREE_KINDS, "override")
    return REASONS.get(target) if is_whole or target == "raw text" else None
