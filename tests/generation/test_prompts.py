import pytest

from rasengan_xl.cli.console import follow
from rasengan_xl.config.drawing_settings import PromptLine
from rasengan_xl.errors import RecipeError
from rasengan_xl.generation.emphasis import is_plain, read_emphasis
from rasengan_xl.generation.ground import read_run
from rasengan_xl.generation.prompts import as_lines, held_out_prompts, read_prompts


def test_a_file_holds_a_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa ninja\n\n# not this\n  a cat, # a dog \nein Mädchen\n", "utf-8")
    assert [line.prompt for line in read_prompts(file)] == [
        "a ninja",
        "a cat, # a dog",
        "ein Mädchen",
    ]


def test_lines_of_json_may_differ_in_more_than_the_prompt(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"prompt": "a"}\n{"prompt": "b", "negative_prompt": "c", "seed": 7, "size": "64x32"}\n'
    )
    assert read_prompts(file) == [
        PromptLine(prompt="a"),
        PromptLine(prompt="b", negative_prompt="c", seed=7, size=(64, 32)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.txt", b"", "holds 0 prompts"),
        ("p.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("p.txt", b"a\0b", r"line 1: prompt = .*no text may hold"),
        ("p.jsonl", b"a ninja", "line 1: is not JSON"),
        ("p.jsonl", b"[" * 9999, "line 1: is not JSON"),
        ("p.jsonl", b"\n[1]", "line 2: is no JSON object"),
        ("p.jsonl", b'{"promt": "a"}', "did you mean 'prompt'"),
        ("p.jsonl", b'{"prompt": "a", "seed": -1}', "line 1: seed = -1"),
        ("p.jsonl", b'{"prompt": "a", "size": "30"}', "line 1: size = '30': 30 is no multiple"),
        ("p.jsonl", b'{"prompt": "\\ud800"}', "no text may hold"),
        ("p.jsonl", b'{"prompt": 3}', "line 1: prompt = 3"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(tmp_path, name, content, expected):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(RecipeError, match=expected) as mistake:
        read_prompts(file)
    assert "\n" not in str(mistake.value)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_held_out_captions_are_those_of_the_runs_split(lora_run, picture_folder):
    settings = read_run(lora_run.path)
    lines = follow(held_out_prompts(settings, 3), lambda _: None)
    captions = {file.read_text().strip() for file in picture_folder.glob("*.txt")}
    assert len(lines) == 3
    assert {line.prompt for line in lines} <= captions
    assert all(is_plain(read_emphasis(line.prompt)) for line in lines)
    with pytest.raises(RecipeError, match="held_out = 9: the run held out 3"):
        follow(held_out_prompts(settings, 9), lambda _: None)


def test_prompts_are_taken_as_they_are():
    assert [line.prompt for line in as_lines(["# a", ""])] == ["# a", ""]
