import json

import pytest
from PIL import Image

from rasengan_xl.comparison.execute import ArmEnded, run_comparison
from rasengan_xl.comparison.result import RESULT_FILE, Comparison
from rasengan_xl.config.recipe import lay_over
from rasengan_xl.config.settings import ComparisonSettings
from rasengan_xl.errors import OutputError, RasenganError
from rasengan_xl.report.page import write_report


@pytest.fixture
def comparison(settings):
    def build(arms, **changes):
        tree = {
            "name": "test",
            "varies": ["adapter", "training"],
            "arms": {name: settings(**arm) for name, arm in arms.items()},
            "pictures": {"prompts": ["a ninja"], "seeds": [1, 2], "sampler_steps": 2},
        }
        lay_over(tree, changes)
        return ComparisonSettings.model_validate(tree)

    return build


@pytest.mark.slow
def test_arms_that_fail_are_recorded_and_the_others_finish(comparison, tmp_path):
    arms = {
        "lora": {},
        "qlora": {"adapter": {"base_precision": "nf4"}},
        "wild": {"training": {"learning_rate": 1e30, "max_gradient_norm": 1e30}},
    }
    folder = tmp_path / "out"
    events = list(run_comparison(comparison(arms), folder))
    ended = {event.arm: event.reason for event in events if isinstance(event, ArmEnded)}
    assert ended["lora"] is None
    assert ended["qlora"] is None
    assert "step" in ended["wild"]

    result = Comparison.model_validate_json((folder / RESULT_FILE).read_text())
    assert [arm.status for arm in result.arms] == ["finished", "finished", "failed"]
    lora, qlora, wild = result.arms
    assert lora.trace_hash == qlora.trace_hash
    assert wild.reason == ended["wild"]
    assert wild.peak_memory_gib is None
    assert lora.differs["adapter.base_precision"] == "full"
    assert qlora.differs["adapter.base_precision"] == "nf4"
    assert result.dataset.train == 9
    assert (folder / lora.adapter_file).stat().st_size == lora.adapter_bytes
    assert len(result.pictures) == 2
    for row in result.pictures:
        assert set(row.arms) == {"lora", "qlora"}
        for path in (row.base, *row.arms.values()):
            with Image.open(folder / path) as picture:
                assert picture.size == (32, 32)

    steps = [json.loads(s) for s in (folder / lora.run / "steps.jsonl").read_text().splitlines()]
    assert lora.training_loss == steps[-1]["loss"], "the mean of the last tenth of four steps"
    page = write_report(folder).read_text()
    assert wild.reason.split(";")[0] in page


def test_a_used_folder_is_refused_before_anything_is_done(comparison, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="choose another --out"):
        next(run_comparison(comparison({"lora": {}}), tmp_path))


def test_a_target_that_matches_nothing_stops_before_anything_is_written(comparison, tmp_path):
    arms = {"lora": {}, "odd": {"adapter": {"targets": ["to_nowhere"]}}}
    with pytest.raises(RasenganError, match="arms.odd: adapter.targets: 'to_nowhere'"):
        list(run_comparison(comparison(arms), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_optimizer_that_the_machine_lacks_stops_before_anything_is_written(comparison, tmp_path):
    arms = {"lora": {}, "paged": {"training": {"optimizer": "paged_adamw8bit"}}}
    with pytest.raises(RasenganError, match="arms.paged: training.optimizer = 'paged_adamw8bit'"):
        list(run_comparison(comparison(arms), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
