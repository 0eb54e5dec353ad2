"""Folders of sample comparisons."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rasengan_xl.comparison.result import ArmResult, Comparison

from .sample import build_arm, build_comparison, build_rich_comparison, write_folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a comparison of the given arms into a folder."""

    def make(*arms: ArmResult, size: int = 8, **changes: object) -> Path:
        return write_folder(tmp_path / "sample", build_comparison(*arms, **changes), size)

    return make


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """Two finished arms with three seeds each."""
    return make_folder(build_arm("lora"), build_arm("dora"))


@pytest.fixture(scope="session")
def rich_comparison() -> Comparison:
    return build_rich_comparison()


@pytest.fixture(scope="session")
def rich_folder(tmp_path_factory: pytest.TempPathFactory, rich_comparison: Comparison) -> Path:
    """Four arms with three seeds each, one run failed, with every part of the schema."""
    return write_folder(tmp_path_factory.mktemp("rich") / "comparison", rich_comparison)
