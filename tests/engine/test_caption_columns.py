import torch

from rasengan_xl.engine.caption_columns import caption_columns, count_columns, lay_out_columns
from rasengan_xl.sdxl.full_size import build_full_size_unet


def test_layers_of_one_width_lie_together_in_their_order():
    columns = lay_out_columns({"a": 4, "b": 2, "c": 4, "d": 2})
    assert columns == {"b": range(2), "d": range(2, 4), "a": range(4, 8), "c": range(8, 12)}


def test_sdxl_has_140_layers_whose_input_is_the_caption():
    with torch.device("meta"):
        columns = caption_columns(build_full_size_unet())
    assert len(columns) == 140
    assert count_columns(columns) == 166_400
