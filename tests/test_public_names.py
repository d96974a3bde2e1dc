"""`import recsys`: the functions that users call, each imported when it is first used."""

import pytest

import recsys


def test_every_public_name_can_be_imported_and_is_listed():
    assert set(recsys._PLACES) == set(recsys.__all__) <= set(dir(recsys))
    for name in recsys.__all__:
        module, attribute = recsys._PLACES[name]
        found = getattr(recsys, name)
        assert (found.__module__, found.__qualname__) == (module, attribute)
        assert found.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = recsys.trian
