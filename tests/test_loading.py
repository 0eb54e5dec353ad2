import gc
import sys

import pytest

from rasengan_xl.loading import loading


@pytest.fixture
def frozen(monkeypatch):
    """Note each freezing, without keeping what the tests have left lying."""
    noted = []
    monkeypatch.setattr(gc, "freeze", lambda: noted.append(gc.isenabled()))
    return noted


def test_the_collector_rests_and_leaves_alone_what_came_in(frozen, monkeypatch):
    with loading():
        assert not gc.isenabled()
        monkeypatch.setitem(sys.modules, "a_new_module", gc)
        assert frozen == []
    assert frozen == [False]
    assert gc.isenabled()


def test_where_nothing_came_in_what_is_there_stays_collectable(frozen):
    with loading():
        pass
    assert frozen == []
    assert gc.isenabled()


def test_a_failed_import_leaves_the_collector_on(frozen):
    with pytest.raises(ImportError), loading():
        import no_such_module_anywhere  # noqa: F401
    assert gc.isenabled()
