"""Runs whose adapters are random: what is verified, and then spoiled in one way or another."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.adapters.verification.attachment import witness_attachment
from rasengan_xl.adapters.verification.fingerprint import take_fingerprint
from rasengan_xl.adapters.verification.trained import TrainedAdapter
from rasengan_xl.adapters.verification.verify import verify_adapter
from rasengan_xl.config.recipe import validate_run
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.tensor_file import read_header, read_tensors, write_tensors
from rasengan_xl.whole_file import write_whole

from ...conftest import METHODS

CPU = Compute(torch.device("cpu"), torch.float32)
FEED_FORWARD = ("to_q", "to_v", "ff.net.0.proj", "ff.net.2")


def run_settings(model: Path, method: str, **adapter: object):
    adapter = {"rank": 2, "alpha": 6, "targets": FEED_FORWARD, **METHODS[method], **adapter}
    return validate_run({"base_model": str(model), "adapter": adapter}, "test")


def randomise(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    adapter.settle()


@pytest.fixture(scope="module")
def make_trained(tiny_model, tmp_path_factory):
    """Put a random adapter on a base, as if it had been trained, and save it as a run does."""

    def make(method: str, implementation: str = "fused", **changes: object) -> TrainedAdapter:
        settings = run_settings(tiny_model, method, **changes)
        model = find_model(settings.base_model)
        unet = load_unet(model, CPU, settings.adapter.base_precision)
        base = take_fingerprint(unet, CPU)
        options = EngineOptions(implementation=implementation)
        adapter = attach_adapter(unet, settings.adapter, 1, options)
        attached = witness_attachment(adapter, base, CPU)
        randomise(adapter)
        folder = RunFolder(tmp_path_factory.mktemp("run") / method)
        folder.start(settings)
        write_whole(folder.model_file, model.facts().model_dump_json())
        save_adapter(adapter, folder.adapter_file)
        return TrainedAdapter(
            adapter=adapter,
            file=folder.adapter_file,
            settings=settings.adapter,
            model=model,
            base=base,
            attached=attached,
            compute=CPU,
        )

    return make


@pytest.fixture(scope="module")
def runs(make_trained) -> dict[str, Path]:
    return {method: make_trained(method).file.parent for method in ("lora", "qlora", "dora")}


@dataclass
class Copy:
    """A copy of a run, to be spoiled."""

    path: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    def change_tensors(self, change) -> None:
        """Have a function change the tensors of the adapter's file in place."""
        file = self.folder.adapter_file
        tensors = {name: tensor.clone() for name, tensor in read_tensors(file).items()}
        header = read_header(file)
        change(tensors)
        write_tensors(file, tensors, header)

    def change_json(self, name: str, change) -> None:
        file = self.path / name
        tree = json.loads(file.read_text())
        change(tree)
        file.write_text(json.dumps(tree))


@pytest.fixture
def copy_run(runs, tmp_path):
    def copy(method: str = "lora") -> Copy:
        return Copy(Path(shutil.copytree(runs[method], tmp_path / "copy")))

    return copy


def verify(path: Path, base: str | None = None):
    work = verify_adapter(path, base)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def statuses(found) -> dict[str, str]:
    return {check.name: check.status for check in found.checks}


def details(found) -> dict[str, str]:
    return {check.name: check.detail for check in found.checks}
