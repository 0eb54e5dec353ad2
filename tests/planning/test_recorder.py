import torch
from torch import nn

from rasengan_xl.planning.cuda_on_meta import CudaOnMeta
from rasengan_xl.planning.ledger import find_peak
from rasengan_xl.planning.recorder import Recorder
from rasengan_xl.planning.work import Operation

ROWS, WIDTH, HIDDEN = 64, 128, 512
FLOAT = 4


def record(model, given, mode=None):
    recorder = Recorder()
    recorder.hold(model.parameters(), "weights")
    named = {recorder.number_of(weights): "weights" for weights in model.parameters()}
    with recorder:
        with mode or CudaOnMeta():
            output = model(given)
        recorder.ledger.mark("backward")
        output.sum().backward()
    return recorder, find_peak(recorder.ledger, named, "backward")


def test_a_step_of_two_layers_takes_what_one_counts_by_hand():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        given = torch.empty(ROWS, WIDTH)
    recorder, peak = record(model, given)
    weights = FLOAT * (2 * WIDTH * HIDDEN + WIDTH + HIDDEN)
    hidden, output = FLOAT * ROWS * HIDDEN, FLOAT * ROWS * WIDTH
    assert peak.kinds["weights"] == weights
    # Most lives while the first weight's gradient is made: the second layer's gradients are
    # there, and of the hidden layer its value, its gradient, and the gradient before the ReLU.
    second = FLOAT * (WIDTH * HIDDEN + WIDTH)
    assert weights + second + 2 * hidden <= peak.total <= weights + second + 3 * hidden + 2 * output
    matmuls = [each for each in recorder.work.operations if each.kind == "matmul"]
    assert sum(o.flops * recorder.work.operations[o] for o in matmuls) == 10 * ROWS * WIDTH * HIDDEN


def test_views_take_nothing_and_launch_nothing():
    given = torch.empty(4, 6, device="meta")
    with (recorder := Recorder()):
        given.view(24).view(2, 12).transpose(0, 1)[1:]
    assert recorder.work.kernels == 0
    assert recorder.ledger.moves == []


def test_a_kernel_reads_and_writes_what_its_tensors_hold():
    given = torch.empty(1000, device="meta")
    with (recorder := Recorder()):
        given + given
    assert recorder.work.operations == {Operation("memory", 0, 3 * 4000): 1}


def test_autocast_on_the_meta_device_casts_as_on_a_gpu():
    given = torch.empty(2, 8, device="meta")
    weight = torch.empty(8, 8, device="meta", requires_grad=True)
    with Recorder() as recorder, CudaOnMeta(torch.bfloat16):
        assert torch.is_autocast_enabled("cuda")
        product = torch.nn.functional.linear(given, weight)
        again = torch.nn.functional.linear(product, weight)
        assert torch.nn.functional.layer_norm(again, (8,)).dtype is torch.float32
    assert not torch.is_autocast_enabled("cuda")
    assert (product.dtype, again.dtype) == (torch.bfloat16, torch.bfloat16)
    casts = [origin for origin in recorder.ledger.origins if origin == "_to_copy"]
    assert len(casts) == 3  # the input, the weight once, and the sum for the norm


def test_attention_keeps_no_scores():
    query = torch.empty(1, 2, 4096, 64, device="meta", dtype=torch.float16, requires_grad=True)
    with Recorder() as recorder, CudaOnMeta():
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert max(recorder.ledger.sizes) == 2 * 4096 * 64 * 2
    assert [each.kind for each in recorder.work.operations] == ["attention"]


def test_products_of_integers_count_like_others():
    left = torch.empty(32, 64, dtype=torch.int8, device="meta")
    right = torch.empty(64, 16, dtype=torch.int8, device="meta")
    with Recorder() as recorder:
        torch._int_mm(left, right)
    assert [(each.kind, each.flops) for each in recorder.work.operations] == [
        ("matmul", 2 * 32 * 64 * 16)
    ]
