import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.columns import choose_column


def test_a_column_is_found_by_its_name_in_any_case():
    assert choose_column("image", None, ["id", "IMG"], "t") == "IMG"
    assert choose_column("caption", None, ["prompt", "text", "image"], "t") == "text"


def test_the_told_column_goes_before_known_names():
    assert choose_column("caption", "style", ["text", "style"], "t") == "style"


def test_a_missing_column_is_answered_with_those_there_are():
    told = r"t: there is no column 'words' among id, img: .*--set dataset\.caption_column"
    with pytest.raises(DatasetError, match=told):
        choose_column("caption", "words", ["id", "img"], "t")
    with pytest.raises(DatasetError, match="t: no image column is recognised among id, words"):
        choose_column("image", None, ["id", "words"], "t")
