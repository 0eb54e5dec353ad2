from functools import partial

import pytest

from rasengan_xl.config.dataset_settings import CaptionSettings
from rasengan_xl.dataset.captions import fill_template, list_wordings, shuffle_tags
from rasengan_xl.sources.pictures import CaptionedPicture

TAGS = "1girl, red hair, blue eyes, headband, forest, smile"


def picture(*captions: str, class_name: str = "", digest: str = "d") -> CaptionedPicture:
    return CaptionedPicture(
        name="a.png",
        captions=captions,
        class_name=class_name,
        picture_digest=digest,
        width=8,
        height=8,
        read=partial(bytes),
    )


def test_without_settings_the_captions_are_the_wordings():
    assert list_wordings(picture("a ninja", "a boy"), CaptionSettings()) == ("a ninja", "a boy")
    assert list_wordings(picture("a", "b", "a"), CaptionSettings()) == ("a", "b")


@pytest.mark.parametrize(
    ("template", "class_name", "expected"),
    [
        ("{trigger}, {class}, {caption}", "frog", "nrt, frog, big , old,, toad"),
        ("{trigger}, {class}, {caption}", "", "nrt, big , old,, toad"),
        ("{class}, {trigger}, {caption}", "", "nrt, big , old,, toad"),
        ("{trigger} {caption} , {class}", "", "nrt big , old,, toad"),
        ("{trigger}  of a  {class} {caption}", "", "nrt of a big , old,, toad"),
        ("{trigger} {{sic}}: {caption}", "", "nrt {sic}: big , old,, toad"),
    ],
)
def test_a_template_is_filled_and_tidied_but_not_the_caption(
    template: str, class_name: str, expected: str
):
    assert fill_template(template, "big , old,, toad", "nrt", class_name) == expected


def test_braces_in_a_caption_are_only_text():
    assert fill_template("{trigger} {caption}", "{caption} {x}", "t", "") == "t {caption} {x}"


def test_a_template_that_nothing_fills_gives_no_wording():
    assert list_wordings(picture("a"), CaptionSettings(template="{class}")) == ()
    named = picture("a", class_name="frogs")
    assert list_wordings(named, CaptionSettings(template="{class}")) == ("frogs",)


def test_shuffles_keep_all_tags_and_the_first_in_place():
    settings = CaptionSettings(tag_shuffles=8, kept_tags=2)
    wordings = list_wordings(picture(TAGS), settings)
    assert wordings[0] == TAGS
    assert len(wordings) > 4
    for wording in wordings:
        assert wording.startswith("1girl, red hair, ")
        assert sorted(wording.split(", ")) == sorted(TAGS.split(", "))


def test_shuffles_are_a_function_of_picture_and_number():
    few = list_wordings(picture(TAGS), CaptionSettings(tag_shuffles=2))
    assert few == list_wordings(picture(TAGS), CaptionSettings(tag_shuffles=2))
    assert few == list_wordings(picture(TAGS), CaptionSettings(tag_shuffles=5))[: len(few)]
    assert few != list_wordings(picture(TAGS, digest="e"), CaptionSettings(tag_shuffles=2))


def test_the_trigger_is_not_shuffled_away():
    settings = CaptionSettings(template="{trigger}, {caption}", trigger="nrt", tag_shuffles=6)
    assert all(wording.startswith("nrt, ") for wording in list_wordings(picture(TAGS), settings))


def test_a_caption_without_tags_has_one_wording():
    settings = CaptionSettings(tag_shuffles=4, kept_tags=1)
    assert list_wordings(picture("a ninja in a wood"), settings) == ("a ninja in a wood",)
    assert list_wordings(picture("a, b"), settings) == ("a, b",)
    assert shuffle_tags("a", 3, "key") == "a"
