import shutil
from contextlib import closing

import pytest

from rasengan_xl.comparison import probe, process
from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.orders import Train
from rasengan_xl.comparison.process import WorkerFailedError
from rasengan_xl.comparison.result import RESULT_FILE
from rasengan_xl.comparison.worker import carry_out
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.config.recipe import lay_over
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import RasenganError
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene


@pytest.fixture(autouse=True)
def quick_probe(monkeypatch):
    """Measure the device for a moment only."""
    monkeypatch.setattr(probe, "SECONDS", 0.01)
    monkeypatch.setitem(probe._SIDES, "cpu", 256)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Put a shell script in the place of the worker's Python; `$run` is the order's run."""

    def become(script):
        file = tmp_path / "worker"
        take_order = """run=$(sed 's/.*"run":"\\([^"]*\\)".*/\\1/')"""
        file.write_text(f"#!/bin/sh\n{take_order}\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(process.sys, "executable", str(file))

    return become


@pytest.fixture
def train(tmp_path):
    """Order a run by name."""

    def order(run):
        return Train(root=tmp_path, settings=RunSettings(), run=run)

    return order


class InThisProcess:
    """A place that carries out orders without a process for each, and notes them."""

    slots = 1

    def __init__(self):
        self.orders = []
        self.lose = {}
        """By run: how often its worker is to be lost, after how many steps."""
        self.pause = {}
        """By run: the step after which it waits to be stopped."""

    def describe(self):
        return "this process"

    def carry_out(self, order, slot, log, stop):
        self.orders.append(order)
        losses = self.lose.get(getattr(order, "run", ""), [])
        left = losses.pop(0) if losses else None
        with closing(carry_out(order)) as records:
            try:
                for record in records:
                    yield record
                    if getattr(record, "step", None) == self.pause.get(
                        getattr(order, "run", ""), 0
                    ):
                        assert stop.asked.wait(60)
                        return
                    if left is not None and getattr(record, "step", None) == left:
                        raise WorkerFailedError("killed by signal 9", by_user=False, lost=True)
            except RasenganError as error:
                raise WorkerFailedError(str(error), by_user=True) from error

    def close(self):
        pass

    @property
    def runs(self):
        """The runs that were ordered, in order."""
        return [order.run for order in self.orders if isinstance(order, Train)]


@pytest.fixture
def place():
    return InThisProcess()


@pytest.fixture(scope="session")
def portraits(tmp_path_factory):
    """Twenty captioned portraits."""
    folder = tmp_path_factory.mktemp("portraits")
    for i in range(20):
        scene = draw_scene(i)
        draw_portrait(scene, "shinobi", 32).save(folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(write_caption(scene, "shinobi"))
    return folder


@pytest.fixture
def comparison(settings, portraits):
    """Build a comparison on a tiny model; an arm is what differs from the settings of a run."""

    def build(arms, **changes):
        source = {"source": str(portraits), "held_out_minimum": 9}
        tree = {
            "name": "test",
            "varies": ["adapter", "training"],
            "arms": {
                name: settings(**_laid_over({"seed": 0, "dataset": source}, arm))
                for name, arm in arms.items()
            },
            "pictures": {"prompts": ["a ninja"], "seeds": [1, 2], "sampler_steps": 2},
            "scoring": {
                "pictures": 8,
                "sampler_steps": 1,
                "neutral_prompts": ["a pencil drawing of a person"],
                "encoders": ["reader"],
            },
        }
        lay_over(tree, changes)
        return ComparisonSettings.model_validate(tree)

    return build


@pytest.fixture
def folder(tmp_path):
    return ComparisonFolder(tmp_path / "out")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """Where what several tests begin with is kept."""
    return tmp_path_factory.mktemp("comparisons")


@pytest.fixture
def begin_with(folder, place, shelf):
    """Begin with a finished comparison, which is made once under each name."""

    def begin(name, settings):
        kept = shelf / name
        if not (kept / RESULT_FILE).exists():
            for _ in run_comparison(settings, kept, place=place):
                pass
            place.orders.clear()
        shutil.copytree(kept, folder.root)

    return begin


@pytest.fixture
def stop_after_two_steps():
    """Run a comparison of the arm `lora` until two steps are taken, and stop it as Ctrl-C does."""

    def stop(settings, folder, place):
        place.pause["arms/lora/seed-0"] = 2
        events = run_comparison(settings, folder.root, place=place)
        for event in events:
            if getattr(getattr(event, "record", None), "step", None) == 2:
                break
        events.close()
        place.pause.clear()

    return stop


def _laid_over(below, above):
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in below.items()}
    lay_over(tree, above)
    return tree
