import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rasengan_xl.engine import attention_choice
from rasengan_xl.engine.attention_choice import (
    AttentionShape,
    describe_shape,
    is_correct,
    recall_or_measure,
)

SHAPE = AttentionShape(
    batch=2,
    heads=3,
    query_tokens=16,
    key_tokens=7,
    head_width=8,
    dtype=torch.float32,
    device=torch.device("cpu"),
    is_differentiated=True,
)
ON_GPU = AttentionShape(
    **{name: getattr(SHAPE, name) for name in SHAPE.__slots__ if name != "device"},
    device=torch.device("cuda", 0),
)


def test_a_processor_has_no_choice():
    assert recall_or_measure(SHAPE) is None


def test_a_shape_knows_what_autocast_makes_of_it():
    query = torch.randn(2, 3, 16, 8)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        shape = describe_shape(query.requires_grad_(), query, query)
    assert shape.dtype is torch.bfloat16
    assert not shape.is_differentiated
    assert describe_shape(query, query, query).is_differentiated


def test_one_wrong_number_among_the_results_is_found():
    inputs = attention_choice._draw_inputs(SHAPE)
    found = attention_choice._compute(inputs, is_differentiated=True)
    assert is_correct(found, inputs)
    assert is_correct(found[:1], inputs)
    for i in range(4):
        for fault in (1e3, float("nan")):
            wrong = [tensor.clone() for tensor in found]
            wrong[i][-1, -1, 0, 0] = fault
            assert not is_correct(wrong, inputs)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    attention_choice._draw_inputs(SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[AttentionShape]:
    """Pretend that there is a GPU, on which flash is always the fastest."""
    shapes: list[AttentionShape] = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(
        attention_choice, "measure_fastest", lambda shape: (shapes.append(shape), "flash")[1]
    )
    attention_choice._recall_or_measure.cache_clear()
    yield shapes
    attention_choice._recall_or_measure.cache_clear()


def test_a_shape_is_measured_once_a_machine(measured: list[AttentionShape]):
    for _ in range(2):  # a process, and the next
        assert recall_or_measure(ON_GPU) == recall_or_measure(ON_GPU) == "flash"
        attention_choice._recall_or_measure.cache_clear()
    assert measured == [ON_GPU]


def test_what_surrounds_the_caller_has_no_part_in_the_measurement(
    measured: list[AttentionShape], monkeypatch: pytest.MonkeyPatch
):
    def measure(shape: AttentionShape) -> str:
        inputs = attention_choice._draw_inputs(SHAPE)
        assert attention_choice._compute(inputs, is_differentiated=True)[0].dtype is torch.float32
        return "efficient"

    kept: list[torch.Tensor] = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a fourth GPU")
    monkeypatch.setattr(attention_choice, "measure_fastest", measure)
    with (
        torch.autograd.graph.saved_tensors_hooks(kept.append, lambda kept: kept),
        torch.autocast("cpu", torch.bfloat16),
        torch.no_grad(),
    ):
        assert recall_or_measure(ON_GPU) == "efficient"
    assert not kept


def test_no_kernel_is_remembered_as_none(
    measured: list[AttentionShape], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another GPU")
    monkeypatch.setattr(attention_choice, "measure_fastest", lambda shape: None)
    assert recall_or_measure(ON_GPU) is None
    attention_choice._recall_or_measure.cache_clear()
    monkeypatch.setattr(attention_choice, "measure_fastest", lambda shape: "flash")
    assert recall_or_measure(ON_GPU) is None


def test_a_shape_that_leaves_no_memory_to_measure_is_tried_again_by_the_next_process(
    measured: list[AttentionShape], monkeypatch: pytest.MonkeyPatch
):
    def run_out(shape: AttentionShape) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a fifth GPU")
    with monkeypatch.context() as patch:
        patch.setattr(attention_choice, "measure_fastest", run_out)
        assert recall_or_measure(ON_GPU) is None
    attention_choice._recall_or_measure.cache_clear()
    assert recall_or_measure(ON_GPU) == "flash"


def test_nothing_is_measured_while_a_graph_is_recorded(
    measured: list[AttentionShape], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a third GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(AssertionError, match="not computed before"):
        recall_or_measure(ON_GPU)
    assert not measured


def test_kernels_are_judged_by_what_they_compute():
    inputs = attention_choice._draw_inputs(SHAPE)
    scaled = scaled_dot_product_attention(*inputs[:3], scale=1.0)  # forgot to divide
    assert not is_correct([scaled], inputs)
