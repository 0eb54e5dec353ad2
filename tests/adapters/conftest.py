"""The mini model's layers and weights, read once."""

import pytest

from rasengan_xl.adapters.base import Base
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.stored_weights import StoredWeights


@pytest.fixture(scope="session")
def mini_base() -> Base:
    model = find_model("mini")
    return Base(layers=list_layers(model), stored=StoredWeights(model))
