import pytest
from pydantic import ValidationError

from rasengan_xl.errors import OutputError
from rasengan_xl.runs.records import BestCheckpoint, TableLosses


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_refused_by_name_in_one_line(loss):
    with pytest.raises(OutputError, match=rf"^BestCheckpoint\.loss: {loss} is no finite number"):
        BestCheckpoint(step=1, loss=loss, n=4)


def test_a_figure_within_a_table_is_named_too():
    with pytest.raises(OutputError, match=r"TableLosses\.base\.0\.1: nan"):
        TableLosses(
            pictures=["a"], digests=["b"], timesteps=[1, 2], base=[[0.1, float("nan")]], adapted=[]
        )


@pytest.mark.parametrize("loss", ["NaN", "null", "-Infinity"])
def test_a_file_with_such_a_figure_is_malformed_as_any_other(loss):
    with pytest.raises(ValidationError):
        BestCheckpoint.model_validate_json(f'{{"step": 1, "loss": {loss}, "n": 4}}')
