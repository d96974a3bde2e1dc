"""The list of table forms: to add one, write its file here and add it to `FORMS`."""

from recsys.errors import RecsysError, did_you_mean
from recsys.serving.table_forms.base import TableForm
from recsys.serving.table_forms.materialized import Materialized
from recsys.serving.table_forms.native import Native

# In order: an export is compared with its first form if the run is gone, and an embedding that no
# chosen form can hold is written in the first one.
FORMS: dict[str, TableForm] = {form.name: form for form in (Materialized(), Native())}
BOTH = "both"  # `recsys export --tables both`: every form whose `is_default` is set


def form_choices() -> list[str]:
    """The values that `recsys export --tables` takes."""
    return [BOTH, *FORMS]


def describe_forms() -> str:
    """The choices of `recsys export --tables` as Markdown, for the command's help."""
    forms = [f"- {form.name}: {form.description}" for form in FORMS.values()]
    default = " and ".join(form.name for form in FORMS.values() if form.is_default)
    both = (
        f"- {BOTH}: {default}, but no materialized tables of compressed features if they would "
        "take more than 16 GiB"
    )
    return "\n".join(["Table forms:\n", *forms, both])


def get_form(name: str) -> TableForm:
    """The form of that name.

    >>> get_form("native").description
    'the tables as trained, and the rule that computes a vector from them'

    Raises:
        RecsysError: if the list has no such form.
    """
    if name not in FORMS:
        raise RecsysError(
            f"unknown table form {name!r}",
            expected=", ".join(FORMS),
            fix=did_you_mean(name, FORMS),
        )
    return FORMS[name]
