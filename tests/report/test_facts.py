from rasengan_xl.report.facts import (
    describe_drawing,
    list_dataset_facts,
    list_machine_facts,
    list_plain,
    list_work_facts,
)

from .sample import build_arm, build_comparison, build_dataset, build_machine


def test_what_was_left_out_is_counted_with_its_reason():
    assert list_dataset_facts(build_dataset())["pictures left out"] == "2 unreadable"
    none = build_dataset().model_copy(update={"skipped": {"unreadable": 0}})
    assert list_dataset_facts(none)["pictures left out"] == "0"
    assert list_dataset_facts(None) == {}


def test_a_processor_has_no_device_memory():
    assert list_machine_facts(build_machine())["device memory"] == "14.6 GiB"
    processor = build_machine().model_copy(update={"device_memory_gib": None})
    assert "device memory" not in list_machine_facts(processor)
    assert list_machine_facts(None) == {}


def test_a_missing_commit_is_said_to_be_missing():
    assert list_machine_facts(build_machine())["commit of the code"] == "not run from a checkout"


def test_the_device_s_speed_and_shared_memory_are_told(rich_comparison):
    facts = list_work_facts(rich_comparison)
    assert facts["matrix products"].startswith("41.2 TFLOP/s (float16")
    assert facts["peak memory to encode"] == "3.21 GiB (cuda allocated)"
    assert facts["encoder dino"].endswith("absent")


def test_the_caption_of_the_wall_says_how_it_was_drawn():
    text = describe_drawing(build_comparison(build_arm("lora")))
    assert "none was picked" in text
    assert text.endswith("Sampler steps 30, guidance 5.")


def test_prompts_are_not_repeated_among_settings():
    assert list_plain({"size": 64, "prompts": ["a"], "on": {"x": True}}) == {
        "size": "64",
        "on.x": "true",
    }
