"""A UNet of our own layers learns what PEFT's does, whatever is switched on."""

from dataclasses import fields

import pytest
import torch

from rasengan_xl.engine.options import EngineOptions

from .steps import (
    ALL,
    ATTENTION,
    attach,
    backward,
    build_unet,
    compute,
    draw_inputs,
    largest_error,
    read_into_plain,
)

PEFT = EngineOptions(implementation="peft")
LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
SHAPES = {
    "lora": {},
    "dora": {"decompose": True},
    "rslora": {"rank_stabilized": True, "targets": ("to_q", "to_v")},
    "dora of queries and values": {"decompose": True, "targets": ("to_q", "to_v")},
    "lora of all": {"targets": ALL},
    "dora of all": {"decompose": True, "targets": ALL},
    "ranks of their own": {
        "layer_shapes": (
            {"layer": f"{LAYER}.to_k", "rank": 7, "alpha": 2},
            {"layer": f"{LAYER}.to_out.0", "rank": 1, "alpha": 3},
        )
    },
}
SWITCHED = {
    f.name: not f.default
    for f in fields(EngineOptions)
    if f.type is bool and f.name not in {"cuda_graph", "cache_text_kv", "int8_compute", "compile"}
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_are_those_of_peft(shape):
    expected = backward(attach(build_unet(), PEFT, **shape))
    assert largest_error(backward(attach(build_unet(), **shape)), expected) < 1e-10


@pytest.fixture(scope="module")
def expected():
    """Gradients of an adapter on all kinds of layers, with all switches as they are."""
    return backward(attach(build_unet(), decompose=True, targets=ALL))


@pytest.mark.parametrize("switch", SWITCHED)
def test_each_switch_leaves_the_gradients_as_they_are(expected, switch):
    options = EngineOptions(**{switch: SWITCHED[switch]})
    found = backward(attach(build_unet(), options, decompose=True, targets=ALL))
    assert largest_error(found, expected) < 1e-10


def test_every_switch_is_tried():
    assert len(SWITCHED) == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory", ["recompute-feed-forward", "recompute-all"])
def test_what_is_computed_twice_has_the_same_gradients_to_the_bit(memory, dtype):
    shape = {"decompose": True, "targets": (*ATTENTION, "ff.net.2")}
    kept = backward(attach(build_unet(dtype), **shape))
    again = backward(attach(build_unet(dtype), EngineOptions(memory=memory), **shape))
    assert all(torch.equal(again[name], kept[name]) for name in kept)


@pytest.mark.parametrize("precision", ["nf4", "nf4-small", "int8"])
@pytest.mark.parametrize("decompose", [False, True])
def test_over_a_base_in_fewer_bits_gradients_are_those_over_the_weights_it_stands_for(
    precision, decompose
):
    shape = {"decompose": decompose, "targets": (*ATTENTION, "ff.net.0.proj", "proj_out")}
    stored = build_unet(torch.float32, precision)
    expected = backward(attach(read_into_plain(stored), PEFT, **shape))
    found = backward(attach(stored, base_precision=precision, **shape))
    assert largest_error(found, expected) < 1e-4


@pytest.mark.parametrize("shape", [{}, {"decompose": True}], ids=["lora", "dora"])
def test_in_16_bits_gradients_are_within_what_peft_is_off_by(shape):
    exact = backward(attach(build_unet(torch.float32), **shape))
    peft, ours = (
        largest_error(backward(attach(build_unet(torch.bfloat16), options, **shape)), exact)
        for options in (PEFT, EngineOptions())
    )
    assert ours < 1.5 * peft


def test_gradients_of_parts_add_up_to_those_of_the_whole(expected):
    parts = backward(attach(build_unet(), decompose=True, targets=ALL), parts=4)
    assert largest_error(parts, expected) < 1e-10


def test_in_16_bits_gradients_add_up_in_float32():
    adapter = attach(build_unet(torch.bfloat16))
    whole = backward(adapter, parts=1)
    assert {gradient.dtype for gradient in whole.values()} == {torch.float32}
    assert largest_error(backward(adapter, parts=4), whole) < 0.1
    assert adapter.rebuilt.adapter._raw is None  # all of it was collected


def test_names_and_values_of_the_base_are_what_they_were():
    before = {n: p.clone() for n, p in build_unet(torch.float32).named_parameters()}
    unet = attach(build_unet(torch.float32), targets=ALL).unet
    after = {n.replace(".base_layer.", "."): p for n, p in unet.named_parameters()}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {n for n, _ in unet.named_parameters() if ".base_layer." in n} == {
        f"{layer}.base_layer.{part}"
        for layer in ("time_embedding.linear_1", "add_embedding.linear_1", *_time_projections(unet))
        for part in ("weight", "bias")
    }


def test_nothing_that_is_computed_holds_on_to_memory():
    """What autograd kept goes when its graph goes: no cycle waits for the garbage collector."""
    import gc
    import weakref

    unet = attach(build_unet(torch.float32), targets=ALL, decompose=True).unet
    kept = []

    def keep(tensor):
        kept.append(weakref.ref(tensor.untyped_storage()))
        return tensor

    gc.disable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = compute(unet, draw_inputs(torch.float32)).sum()
        storages = {id(p.untyped_storage()) for p in unet.parameters()}
        loss.backward()
        del loss
        alive = [ref() for ref in kept if ref() is not None and id(ref()) not in storages]
    finally:
        gc.enable()
    assert len(kept) > 50
    assert alive == []


@pytest.mark.parametrize("memory", ["keep-all", "recompute-feed-forward", "recompute-all"])
def test_dropout_is_drawn_from_the_seed_and_drawn_alike_where_it_is_computed_twice(memory):
    shape = {"dropout": 0.3, "targets": (*ATTENTION, "ff.net.0.proj")}

    def gradients(seed, options):
        adapter = attach(build_unet(torch.float32), options, **shape)
        torch.manual_seed(seed)
        return backward(adapter)

    kept = gradients(1, EngineOptions())
    assert all(
        torch.equal(g, kept[n]) for n, g in gradients(1, EngineOptions(memory=memory)).items()
    )
    other = gradients(2, EngineOptions(memory=memory))
    assert not any(torch.equal(gradient, kept[name]) for name, gradient in other.items())


@pytest.mark.parametrize("targets", [("to_out.0",), ("ff.net.0.proj",), ("ff.net.2",)])
def test_dropout_of_any_part_of_a_block_is_drawn_alike_where_it_is_computed_twice(targets):
    def gradients(options):
        adapter = attach(build_unet(torch.float32), options, dropout=0.3, targets=targets)
        torch.manual_seed(1)
        return backward(adapter)

    kept, again = (gradients(EngineOptions(memory=m)) for m in ("keep-all", "recompute-all"))
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_dropout_is_at_work_only_while_training():
    adapter = attach(build_unet(torch.float32), dropout=0.5)
    inputs = draw_inputs(torch.float32)
    without = attach(build_unet(torch.float32)).unet.eval()
    with torch.no_grad():
        assert torch.equal(compute(adapter.unet.eval(), inputs), compute(without, inputs))
        assert not torch.equal(compute(adapter.unet.train(), inputs), compute(without, inputs))


def test_layers_of_our_own_train_or_do_not_as_those_they_replace():
    for training in (False, True):
        unet = attach(build_unet(torch.float32).train(training), targets=ALL, dropout=0.5).unet
        assert {module.training for module in unet.modules()} == {training}


@pytest.mark.parametrize("precision", ["full", "nf4"])
@pytest.mark.parametrize("decompose", [False, True])
def test_a_fresh_adapter_changes_nothing_to_the_bit_and_one_that_is_disabled_neither(
    precision, decompose
):
    inputs = draw_inputs(torch.float32)
    unet = build_unet(torch.float32, precision)
    shape = {"decompose": decompose, "targets": ALL, "base_precision": precision}
    with torch.no_grad():
        adapter = attach(unet, is_fresh=True, **shape)
        with adapter.disabled():
            base = compute(unet, inputs)
        assert torch.equal(compute(unet, inputs), base)
        for weights in adapter.parameters.values():
            weights.add_(0.1)
        adapter.settle()
        assert not torch.equal(compute(unet, inputs), base)
        with adapter.disabled():
            assert torch.equal(compute(unet, inputs), base)


def _time_projections(unet):
    return [n.removesuffix(".base_layer") for n, _ in unet.named_modules()
            if n.endswith("time_emb_proj.base_layer")]  # fmt: skip
