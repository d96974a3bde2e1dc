"""Why damage that a command accepts is harmless. What is not listed here counts as a failure."""

import re

from tests.mutations.mutation import TREE_KINDS, Mutation

CHOICE = "another valid choice: a default, another order, or a value that the key allows"
VALUE = "one value of one row is another valid value, or white space at the file's end"
NO_VALUES = "bytes that hold no value: the leading magic, a footer's text; pages have checksums"
NOT_READ = "the command does not read this file"
WRITTEN_ANEW = "the command writes this file anew"
FACTS = "facts that are shown, and from which nothing is computed"
OLDER = "a damaged checkpoint is passed over, with a message, for the one before; older ones wait"
MADE_AGAIN = "the case made the checksums again after the change"
BY_CHECKSUM = "verify compares this file with its checksum and never opens it"

FORGED = "other weights, with checksums made again: a forged model is still a model"

# target, what it matches of `part: key.key`, reason; the first that matches
REASONS = (
    ("recipe|config|override|schema", ".*", CHOICE),
    ("raw text", ".*", VALUE),
    ("data files", "dataset/vocabularies/", NOT_READ),
    ("data files", "dataset/", NO_VALUES),
    ("run, .*", r"run/(report\.json|report\.html|predictions/|attention/)", WRITTEN_ANEW),
    ("run, .*", r"run/(environment\.json|training\.json|progress\.json|plan\.json)", FACTS),
    ("run, .*", r"run/(metrics\.csv|tensorboard/)", FACTS),
    ("run, (trees|files)", "run/checkpoints/step-", NOT_READ),
    ("run, resumed", "run/checkpoints/step-", OLDER),
    ("run, resumed", "run/checkpoints/best-", WRITTEN_ANEW),
    ("run, trees", r"run/(config\.yaml|schema\.json)", CHOICE),
    ("run, .*", r"run/checkpoints/best-\d+/(state\.json|tables/layout\.json)", CHOICE),
    ("run, .*", r"run/checkpoints/best-\d+/SHA256SUMS", MADE_AGAIN),
    ("run, files", r"run/(config\.yaml|schema\.json)", CHOICE),
    ("run, files", r"run/checkpoints/best-\d+/.*\.safetensors", FORGED),
    ("export, files", "export/SHA256SUMS", MADE_AGAIN),
    (
        "export, manifest",
        r"export/manifest\.json: (created|notes|versions|parity|run|dataset)",
        FACTS,
    ),
    ("export, manifest", ".*", CHOICE),
    ("export, files", r"export/(model/model\.pt2|tables/.*\.parquet|vocabularies/)", BY_CHECKSUM),
    ("export, files", r"export/schema\.json", NOT_READ),
)


def reason_for(target: str, mutation: Mutation) -> str | None:
    """The reason, or None if no one has given one."""
    is_tree = mutation.kind in TREE_KINDS
    place = mutation.place if is_tree else f"{mutation.part}: "
    for targets, places, reason in REASONS:
        if re.fullmatch(targets, target) and re.match(places, place):
            return reason
    return None
