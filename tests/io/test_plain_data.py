"""YAML from users: whatever it holds, it is plain data within bounds, or one message."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import RecsysError, shorten
from recsys.io.plain_data import MAX_INTEGER, check_bounds, parse_yaml

REFUSED = {
    "a date that does not exist": ("x: 2020-99-99", "invalid YAML value"),
    "an integer of 6,000 digits": ("x: " + "7" * 6000, "invalid YAML value"),
    "an empty integer": ("x: !!int ''", "invalid YAML value"),
    "no boolean": ("x: !!bool maybe", "invalid YAML value"),
    "no timestamp": ("x: !!timestamp soon", "invalid YAML value"),
    "no float": ("x: !!float ''", "invalid YAML value"),
    "an integer beyond 64 bits": ("x: {y: 9223372036854775808}", "x.y"),
    "nested flow": ("[" * 3000, "nested too deeply"),
    "nested within the parser's limits": ("[" * 40 + "]" * 40, "nested too deeply"),
    "itself": ("&a [*a]", "nested too deeply"),
    "a duplicate key": ("{a: 1, b: 2, a: 3}", "duplicate key 'a'"),
    "a date as key": ("2020-01-01: 1", "a key must be text"),
    "a list as key": ("? [1]\n: 2", "a key must be text"),
    "a Python object": ("!!python/object/apply:os.system [exit 1]", "could not determine"),
    "a value for `=`": ("=", "invalid YAML"),
    "a byte that is no text": ("x: \x00", "invalid YAML"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_yaml_outside_the_bounds_is_one_message(text, words):
    with pytest.raises(RecsysError) as error:
        parse_yaml(text, "here")
    assert words in str(error.value)
    assert "here" in str(error.value)


def test_aliases_that_expand_to_a_billion_values_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(RecsysError, match="too many values"):
        parse_yaml("\n".join(lines), "here")


def test_values_within_the_bounds_are_returned_as_they_are():
    text = f"{{a: [1, 2.5, null, true, {MAX_INTEGER}], b: {{c: text, 3: x}}}}"
    expected = {"a": [1, 2.5, None, True, MAX_INTEGER], "b": {"c": "text", 3: "x"}}
    assert parse_yaml(text, "here") == expected


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab1:-.[]{}&*!|>'\"#%@`,? \n\t0e~<=_"), max_size=40))
def test_any_text_is_plain_data_or_one_message(text):
    try:
        content = parse_yaml(text, "here")
    except RecsysError:
        return
    check_bounds(content, "here")


def test_long_text_is_shortened_in_messages():
    assert shorten("x" * 200) == "x" * 200
    assert shorten("x" * 1000) == "x" * 200 + "… (1,000 characters)"
