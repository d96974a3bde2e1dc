"""Why damage that a command accepts is harmless. What is not listed here counts as a failure."""

from tests.mutations.mutation import Mutation


def reason_for(target: str, mutation: Mutation) -> str | None:
    """The reason, or None where nobody has given one."""
    return None
