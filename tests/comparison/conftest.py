import pytest

from rasengan_xl.comparison import process
from rasengan_xl.comparison.orders import Train
from rasengan_xl.config.settings import RunSettings


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
