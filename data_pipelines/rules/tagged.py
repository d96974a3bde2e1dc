"""Short spellings of configs that a tag tells apart."""

from pydantic import BeforeValidator


def named(tag: str) -> BeforeValidator:
    """Lets `transform: log` stand for `transform: {kind: log}`."""
    return BeforeValidator(lambda value: {tag: value} if isinstance(value, str) else value)
