"""A small file in the form of each trainer, held against that trainer's published formula.

The formulas are written out here a second time, in NumPy and double precision.  Names are written
out, too, not made by the tables that are tested.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rasengan_xl.adapters.changes import weight_change
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import find_model

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"  # of 192 channels
KOHYA_BLOCK = "input_blocks_3_1_transformer_blocks_0"
TO_Q = f"unet.{BLOCK}.attn1.to_q"  # 192 x 192
TO_K = f"unet.{BLOCK}.attn2.to_k"  # 192 x 128
TO_OUT = f"unet.{BLOCK}.attn1.to_out.0"
CONV = "unet.down_blocks.1.resnets.0.conv1"  # 192 x 64 x 3 x 3
SHORTCUT = "unet.down_blocks.1.resnets.0.conv_shortcut"  # 192 x 64 x 1 x 1
TEXT_1 = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
TEXT_2 = "text_encoder_2.text_model.encoder.layers.1.mlp.fc2"
EPSILON = 2.0**-23  # of float32


@pytest.fixture(scope="module")
def layers():
    return list_layers(find_model("mini"))


def draw(*shape):
    generator = torch.Generator().manual_seed(sum(shape) + 7 * len(shape))
    return torch.randn(shape, generator=generator) / 4


@pytest.fixture
def read(layers, tmp_path):
    """Write a file and read it as ours; returns each layer's change of a random weight."""

    def write_and_read(tensors, header=None):
        file = tmp_path / "adapter.safetensors"
        save_file(tensors, file, header)
        return read_adapter(file, layers)

    return write_and_read


def moved(contents, layer, layers):
    """Return how the adapter moves a random weight of a layer, and that weight."""
    weight = draw(*layers.shapes[layer])
    return weight_change(contents.changes[layer], weight).numpy(), weight.double().numpy()


def product(up, down, scale):
    up, down = up.double().numpy(), down.double().numpy()
    both = np.einsum("or,ri...->oi...", up.reshape(up.shape[:2]), down)
    return scale * both


def dora(weight, change, magnitude, axis, epsilon=0.0):
    """Return m (W + D) / |W + D| - W, the norm over every axis but one."""
    merged = weight + change
    others = tuple(i for i in range(merged.ndim) if i != axis)
    norm = np.sqrt((merged**2).sum(axis=others, keepdims=True)) + epsilon
    return magnitude.double().numpy().reshape(norm.shape) * merged / norm - weight


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-6, atol=1e-6)


# PEFT and diffusers


def test_diffusers_alphas_are_those_of_the_header_with_its_patterns(read, layers):
    a, b, c, d = draw(4, 192), draw(192, 4), draw(2, 128), draw(192, 2)
    contents = read(
        {
            f"{TO_Q}.lora_A.weight": a,
            f"{TO_Q}.lora_B.weight": b,
            f"{TO_K}.lora_A.weight": c,
            f"{TO_K}.lora_B.weight": d,
        },
        described(r=4, lora_alpha=6, rank_pattern={"attn2.to_k": 2}, alpha_pattern={TO_K[5:]: 5}),
    )
    assert (contents.form, contents.notes) == ("diffusers", ())
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 6 / 4))
    assert_same(moved(contents, TO_K, layers)[0], product(d, c, 5 / 2))


def test_rank_stabilized_adapters_are_scaled_by_the_root_of_the_rank(read, layers):
    a, b = draw(4, 192), draw(192, 4)
    tensors = {f"{TO_Q}.lora_A.weight": a, f"{TO_Q}.lora_B.weight": b}
    contents = read(tensors, described(r=4, lora_alpha=6, use_rslora=True))
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 6 / 2))


def described(**settings):
    """Return the header that diffusers writes."""
    settings = {f"unet.{key}": value for key, value in settings.items()}
    return {"lora_adapter_metadata": json.dumps(settings, indent=2)}


def test_names_that_diffusers_mixes_are_one_adapter_whose_alpha_is_its_rank(read, layers):
    a, b, f, g = draw(4, 192), draw(192, 4), draw(4, 192), draw(1536, 4)
    contents = read(
        {
            f"{TO_OUT}.lora.down.weight": a,
            f"{TO_OUT}.lora.up.weight": b,
            f"unet.{BLOCK}.ff.net.0.proj.lora_A.weight": f,
            f"unet.{BLOCK}.ff.net.0.proj.lora_B.weight": g,
        }
    )
    assert "alpha is taken to be the rank" in contents.notes[0]
    assert_same(moved(contents, TO_OUT, layers)[0], product(b, a, 1))
    assert_same(moved(contents, f"unet.{BLOCK}.ff.net.0.proj", layers)[0], product(g, f, 1))


@pytest.mark.parametrize("start", ["unet.", ""])
def test_old_diffusers_named_attention_processors(read, layers, start):
    a, b, c, d = draw(4, 192), draw(192, 4), draw(4, 192), draw(192, 4) * 2
    processor = f"{start}{BLOCK}.attn1.processor"
    contents = read(
        {
            f"{processor}.to_out_lora.down.weight": a,
            f"{processor}.to_out_lora.up.weight": b,
            f"{processor}.to_q_lora.down.weight": c,
            f"{processor}.to_q_lora.up.weight": d,
        }
    )
    assert_same(moved(contents, TO_OUT, layers)[0], product(b, a, 1))
    assert_same(moved(contents, TO_Q, layers)[0], product(d, c, 1))


@pytest.mark.parametrize("old", ["to_q_lora", "q_proj.lora_linear_layer", "q_proj.lora"])
def test_old_diffusers_named_the_attention_of_text_encoders(read, layers, old):
    a, b = draw(4, 64), draw(64, 4)
    start = f"{TEXT_1.removesuffix('.q_proj')}.{old}"
    contents = read({f"{start}.down.weight": a, f"{start}.up.weight": b})
    assert_same(moved(contents, TEXT_1, layers)[0], product(b, a, 1))


def test_peft_keeps_its_alpha_in_a_file_beside_it(read, layers, tmp_path):
    a, b = draw(4, 192), draw(192, 4)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 10, "use_dora": False}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    name = f"base_model.model.{TO_Q.removeprefix('unet.')}"
    contents = read({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b})
    assert (contents.form, contents.notes) == ("PEFT", ())
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 10 / 4))


def test_pefts_name_for_both_text_encoders_is_refused_as_unclear(read):
    name = "base_model.model.text_model.encoder.layers.0.mlp.fc1"
    with pytest.raises(AdapterError, match="may mean text_encoder.text_model.* or text_encoder_2"):
        read({f"{name}.lora_A.weight": draw(4, 64), f"{name}.lora_B.weight": draw(256, 4)})


def test_pefts_dora_divides_by_the_norm_of_what_it_changes_per_output(read, layers):
    a, b, m = draw(4, 192), draw(192, 4), draw(192)
    p, q, n = draw(4, 64, 3, 3), draw(192, 4, 1, 1), draw(1, 192, 1, 1)
    contents = read(
        {
            f"{TO_Q}.lora_A.weight": a,
            f"{TO_Q}.lora_B.weight": b,
            f"{TO_Q}.lora_magnitude_vector": m,
            f"{CONV}.lora_A.weight": p,
            f"{CONV}.lora_B.weight": q,
            f"{CONV}.lora_magnitude_vector.weight": n,
        },
        described(r=4, lora_alpha=8, use_dora=True),
    )
    ours, weight = moved(contents, TO_Q, layers)
    assert_same(ours, dora(weight, product(b, a, 2), m, axis=0))
    ours, weight = moved(contents, CONV, layers)
    assert_same(ours, dora(weight, product(q, p, 2), n, axis=0))


# kohya


def test_kohyas_names_are_those_of_stability_with_an_alpha_each(read, layers):
    a, b, c, d, e, f = (
        draw(4, 192), draw(192, 4), draw(2, 64), draw(64, 2), draw(3, 256), draw(64, 3)
    )  # fmt: skip
    text_1 = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
    text_2 = "lora_te2_text_model_encoder_layers_1_mlp_fc2"
    contents = read(
        {
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.lora_down.weight": a,
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.lora_up.weight": b,
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.alpha": torch.tensor(2.0),
            f"{text_1}.lora_down.weight": c,
            f"{text_1}.lora_up.weight": d,
            f"{text_1}.alpha": torch.tensor(1),  # a whole number, as some programs write it
            f"{text_2}.lora_down.weight": e,
            f"{text_2}.lora_up.weight": f,
            f"{text_2}.alpha": torch.tensor([4.5]),
        },
        {"ss_network_module": "networks.lora", "ss_network_alpha": "2.0"},
    )
    assert (contents.form, contents.notes) == ("kohya", ())
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 2 / 4))
    assert_same(moved(contents, TEXT_1, layers)[0], product(d, c, 1 / 2))
    assert_same(moved(contents, TEXT_2, layers)[0], product(f, e, 4.5 / 3))


def test_a_kernel_of_one_and_none_are_the_same(read, layers):
    a, b, c, d = draw(4, 192, 1, 1), draw(192, 4, 1, 1), draw(4, 64), draw(192, 4)
    contents = read(
        {
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.lora_down.weight": a,
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.lora_up.weight": b,
            "lora_unet_input_blocks_3_0_skip_connection.lora_down.weight": c,
            "lora_unet_input_blocks_3_0_skip_connection.lora_up.weight": d,
        }
    )
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 1))
    assert_same(moved(contents, SHORTCUT, layers)[0], product(d, c, 1))


@pytest.mark.parametrize("core", [False, True])
def test_locon_is_convolutions_in_a_row(read, layers, core):
    down, mid, up = draw(4, 64, *((1, 1) if core else (3, 3))), draw(4, 4, 3, 3), draw(192, 4, 1, 1)
    name = "lora_unet_input_blocks_3_0_in_layers_2"
    tensors = {
        f"{name}.lora_down.weight": down,
        f"{name}.lora_up.weight": up,
        f"{name}.alpha": torch.tensor(2.0),
        **({f"{name}.lora_mid.weight": mid} if core else {}),
    }
    ours, _ = moved(read(tensors), CONV, layers)
    picture = torch.randn(1, 64, 6, 6).double()
    row = torch.conv2d(picture, down.double())
    row = torch.conv2d(row, mid.double()) if core else row
    row = torch.conv2d(row, up.double()) * 2 / 4
    at_once = torch.conv2d(picture, torch.from_numpy(ours).double())
    torch.testing.assert_close(at_once, row, rtol=1e-5, atol=1e-5)


def test_without_any_alpha_it_is_the_rank_whatever_the_header_says(read, layers):
    a, b = draw(4, 192), draw(192, 4)
    name = f"lora_unet_{KOHYA_BLOCK}_attn1_to_q"
    tensors = {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b}
    contents = read(tensors, {"ss_network_alpha": "1"})
    assert "though the header's ss_network_alpha is 1" in contents.notes[0]
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 1))


def test_pefts_factors_under_kohyas_names_are_read_alike(read, layers):
    a, b, m = draw(4, 192), draw(192, 4), draw(192)
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1"
    contents = read(
        {
            f"{name}_to_q.lora_A.weight": a,
            f"{name}_to_q.lora_B.weight": b,
            f"{name}_to_q.alpha": torch.tensor(8.0),
            f"{name}.to_q.lora_magnitude_vector": m,  # as diffusers' converter leaves it
        }
    )
    ours, weight = moved(contents, TO_Q, layers)
    assert_same(ours, dora(weight, product(b, a, 2), m, axis=0))


# LyCORIS


def hadamard_names(tensors, alpha, name=f"lora_unet_{KOHYA_BLOCK}_attn1_to_q"):
    named = {f"{name}.hada_{key}": tensor for key, tensor in tensors.items()}
    return {**named, f"{name}.alpha": torch.tensor(alpha)}


def test_loha_multiplies_two_products(read, layers):
    t = {"w1_a": draw(192, 2), "w1_b": draw(2, 192), "w2_a": draw(192, 2), "w2_b": draw(2, 192) * 2}
    contents = read(hadamard_names(t, 5.0))
    assert contents.form == "LyCORIS"
    d = {key: tensor.double().numpy() for key, tensor in t.items()}
    wanted = 5 / 2 * (d["w1_a"] @ d["w1_b"]) * (d["w2_a"] @ d["w2_b"])
    assert_same(moved(contents, TO_Q, layers)[0], wanted)


CONV_NAME = "lora_unet_down_blocks_1_resnets_0_conv1"


@pytest.mark.parametrize("shape", [(2, 576), (2, 64, 3, 3)], ids=["LyCORIS", "OneTrainer"])
def test_loha_of_a_convolution_has_its_kernel_in_the_second_factor(read, layers, shape):
    t = {"w1_a": draw(192, 2), "w1_b": draw(*shape), "w2_a": draw(192, 2), "w2_b": draw(*shape) + 1}
    if len(shape) == 4:
        t |= {key: t[key].reshape(192, 2, 1, 1) for key in ("w1_a", "w2_a")}
    d = {key: tensor.double().numpy().reshape(len(tensor), -1) for key, tensor in t.items()}
    wanted = 3 / 2 * (d["w1_a"] @ d["w1_b"]) * (d["w2_a"] @ d["w2_b"])
    ours, _ = moved(read(hadamard_names(t, 3.0, CONV_NAME)), CONV, layers)
    assert_same(ours, wanted)


def test_loha_with_cores_weaves_the_kernel_in(read, layers):
    t = {f"w{i}_a": draw(2, 192) * i for i in (1, 2)} | {f"w{i}_b": draw(2, 64) + i for i in (1, 2)}
    t |= {f"t{i}": draw(2, 2, 3, 3) + i for i in (1, 2)}
    d = {key: tensor.double().numpy() for key, tensor in t.items()}
    first, second = (
        np.einsum("pqyx,po,qi->oiyx", d[f"t{i}"], d[f"w{i}_a"], d[f"w{i}_b"]) for i in (1, 2)
    )
    ours, _ = moved(read(hadamard_names(t, 1.0, CONV_NAME)), CONV, layers)
    assert_same(ours, 1 / 2 * first * second)


def kronecker(first, second):
    """Return the matrix of blocks: every number of the first times all of the second."""
    rows = [np.concatenate([number * second for number in row], axis=1) for row in first]
    return np.concatenate(rows, axis=0)


@pytest.mark.parametrize(
    ("parts", "scale"),
    [
        ({"w1": (4, 8), "w2": (48, 24)}, 1),
        ({"w1": (4, 8), "w2_a": (48, 3), "w2_b": (3, 24)}, 5 / 3),
        ({"w1_a": (4, 3), "w1_b": (3, 8), "w2": (48, 24)}, 5 / 3),
        ({"w1_a": (4, 3), "w1_b": (3, 8), "w2_a": (48, 3), "w2_b": (3, 24)}, 5 / 3),
    ],
    ids=["whole", "second", "first", "both"],
)
def test_lokr_is_a_kronecker_product_scaled_by_the_rank_of_what_is_a_product(
    read, layers, parts, scale
):
    name = f"lora_unet_{KOHYA_BLOCK}_attn1_to_q"
    t = {key: draw(*shape) for key, shape in parts.items()}
    contents = read(
        {f"{name}.lokr_{key}": tensor for key, tensor in t.items()}
        | {f"{name}.alpha": torch.tensor(5.0)}
    )
    d = {key: tensor.double().numpy() for key, tensor in t.items()}
    first = d["w1"] if "w1" in d else d["w1_a"] @ d["w1_b"]
    second = d["w2"] if "w2" in d else d["w2_a"] @ d["w2_b"]
    assert_same(moved(contents, TO_Q, layers)[0], scale * kronecker(first, second))


@pytest.mark.parametrize("core", [False, True])
def test_lokr_of_a_convolution_repeats_the_kernel(read, layers, core):
    t = {"w1": draw(4, 4)}
    if core:
        t |= {"t2": draw(2, 2, 3, 3), "w2_a": draw(2, 48), "w2_b": draw(2, 16)}
        second = torch.einsum("pqyx,po,qi->oiyx", t["t2"], t["w2_a"], t["w2_b"]).double()
    else:
        t |= {"w2_a": draw(48, 2), "w2_b": draw(2, 16 * 9)}
        second = (t["w2_a"].double() @ t["w2_b"].double()).reshape(48, 16, 3, 3)
    tensors = {f"{CONV_NAME}.lokr_{key}": tensor for key, tensor in t.items()}
    contents = read(tensors | {f"{CONV_NAME}.alpha": torch.tensor(1.0)})
    places = [kronecker(t["w1"].double().numpy(), second[:, :, y, x].numpy()) for y, x in KERNEL]
    assert_same(moved(contents, CONV, layers)[0], 1 / 2 * np.stack(places, axis=-1))


KERNEL = [(y, x) for y in range(3) for x in range(3)]


def test_a_change_that_is_written_out_is_taken_as_it_is(read, layers):
    change = draw(192, 64, 3, 3)
    contents = read({f"{CONV_NAME}.diff": change})
    assert_same(moved(contents, CONV, layers)[0], change.double().numpy())
    assert contents.notes == ()


@pytest.mark.parametrize(("shape", "axis"), [((192, 1), 0), ((1, 192), 1)])
def test_lycoris_has_magnitudes_per_output_or_per_input_as_their_shape_tells(
    read, layers, shape, axis
):
    a, b, m = draw(4, 192), draw(192, 4), draw(*shape)
    name = "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    contents = read(
        {
            f"{name}.lora_down.weight": a,
            f"{name}.lora_up.weight": b,
            f"{name}.alpha": torch.tensor(2.0),
            f"{name}.dora_scale": m,
        }
    )
    assert contents.form == "LyCORIS"
    ours, weight = moved(contents, TO_Q, layers)
    assert_same(ours, dora(weight, product(b, a, 2 / 4), m, axis, EPSILON))


def test_magnitudes_of_a_kronecker_product_are_read_too(read, layers):
    t = {"w1": draw(4, 8), "w2": draw(48, 24)}
    name = f"lora_unet_{KOHYA_BLOCK}_attn1_to_q"
    tensors = {f"{name}.lokr_{key}": tensor for key, tensor in t.items()}
    contents = read(tensors | {f"{name}.dora_scale": draw(192, 1), f"{name}.alpha": torch.ones(())})
    ours, weight = moved(contents, TO_Q, layers)
    change = kronecker(t["w1"].double().numpy(), t["w2"].double().numpy())
    assert_same(ours, dora(weight, change, draw(192, 1), 0, EPSILON))


# OneTrainer

ONETRAINER = {
    "as it trains": ("lora_unet.{}", "lora_te2.{}", False),
    "legacy": ("lora_unet_{}", "lora_te2_{}", True),
}


@pytest.mark.parametrize("form", ONETRAINER)
def test_onetrainer_has_magnitudes_per_input(read, layers, form):
    unet, text, flat = ONETRAINER[form]
    a, b, m = draw(4, 128), draw(192, 4), draw(1, 128)
    p, q, n = draw(4, 64, 3, 3), draw(192, 4, 1, 1), draw(1, 64, 1, 1)
    c, d = draw(4, 256), draw(64, 4)
    inside = {
        unet.format(flattened(TO_K, flat)): {"lora_down.weight": a, "lora_up.weight": b,
                                             "dora_scale": m},
        unet.format(flattened(CONV, flat)): {"lora_down.weight": p, "lora_up.weight": q,
                                             "dora_scale": n},
        text.format(flattened(TEXT_2, flat)): {"lora_down.weight": c, "lora_up.weight": d},
    }  # fmt: skip
    contents = read(with_alphas(inside, 2.0), {"ot_branch": "master", "ot_revision": "abc"})
    assert contents.form == "OneTrainer"
    assert contents.notes == (
        "DoRA as OneTrainer trains it: 2 layers with magnitudes per input, over the norm of the "
        "changed weight",
    )
    ours, weight = moved(contents, TO_K, layers)
    assert_same(ours, dora(weight, product(b, a, 1 / 2), m, 1, EPSILON))
    ours, weight = moved(contents, CONV, layers)
    assert_same(ours, dora(weight, product(q, p, 1 / 2), n, 1, EPSILON))
    assert_same(moved(contents, TEXT_2, layers)[0], product(d, c, 1 / 2))


def flattened(layer, flat):
    inside = layer.partition(".")[2]
    return inside.replace(".", "_") if flat else inside


def with_alphas(inside, alpha):
    tensors = {f"{name}.{key}": t for name, parts in inside.items() for key, t in parts.items()}
    return tensors | {f"{name}.alpha": torch.tensor(alpha) for name in inside}


def test_onetrainers_common_form_has_stabilitys_names_with_dots(read, layers):
    a, b, c, d = draw(4, 192), draw(192, 4), draw(4, 256), draw(64, 4)
    to_q = "unet.input_blocks.3.1.transformer_blocks.0.attn1.to_q"
    text = "clip_g.text_model.encoder.layers.1.mlp.fc2"
    contents = read(
        with_alphas(
            {
                to_q: {"lora_down.weight": a, "lora_up.weight": b},
                text: {"lora_down.weight": c, "lora_up.weight": d},
            },
            2.0,
        )
    )
    assert contents.form == "OneTrainer"
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 1 / 2))
    assert_same(moved(contents, TEXT_2, layers)[0], product(d, c, 1 / 2))


# ai-toolkit, ComfyUI


def test_ai_toolkits_magnitudes_are_per_output(read, layers):
    a, b, m = draw(4, 192), draw(192, 4), draw(192)
    # It renames factors after Stability's code, but leaves magnitudes as they are.
    contents = read(
        {
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.lora_down.weight": a,
            f"lora_unet_{KOHYA_BLOCK}_attn1_to_q.lora_up.weight": b,
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.magnitude": m,
        }
    )
    assert contents.form == "ai-toolkit"
    ours, weight = moved(contents, TO_Q, layers)
    assert_same(ours, dora(weight, product(b, a, 1), m, axis=0))


@pytest.mark.parametrize("factors", [("lora_down", "lora_up"), ("lora_A", "lora_B")])
def test_comfyuis_own_names_are_those_of_its_modules(read, layers, factors):
    a, b, c, d = draw(4, 192), draw(192, 4), draw(4, 64), draw(64, 4)
    to_q = "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q"
    text = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj"
    down, up = factors
    contents = read(
        with_alphas(
            {
                to_q: {f"{down}.weight": a, f"{up}.weight": b},
                text: {f"{down}.weight": c, f"{up}.weight": d},
            },
            2.0,
        )
    )
    assert contents.form == "ComfyUI"
    assert_same(moved(contents, TO_Q, layers)[0], product(b, a, 1 / 2))
    assert_same(moved(contents, TEXT_1, layers)[0], product(d, c, 1 / 2))


# what a file alone does not tell


def vectors(*layers, **header):
    """Return a DoRA whose magnitudes are vectors without axes."""
    inside = {
        name: {"lora_down.weight": draw(2, into), "lora_up.weight": draw(192, 2),
               "dora_scale": draw(length) + 2}
        for name, into, length in layers
    }  # fmt: skip
    return with_alphas(inside, 2.0), header


SQUARE = (f"lora_unet_{KOHYA_BLOCK}_attn1_to_q", 192, 192)


@pytest.mark.parametrize(("length", "axis"), [(192, 0), (128, 1)])
def test_a_vector_on_a_square_layer_is_read_like_the_files_others(read, layers, length, axis):
    other = (f"lora_unet_{KOHYA_BLOCK}_attn2_to_k", 128, length)
    tensors, _ = vectors(SQUARE, other)
    contents = read(tensors)
    assert "1 square layers have magnitudes without an axis" in contents.notes[0]
    ours, weight = moved(contents, TO_Q, layers)
    change = product(draw(192, 2), draw(2, 192), 1)
    assert_same(ours, dora(weight, change, draw(192) + 2, axis, EPSILON))


@pytest.mark.parametrize(
    ("header", "axis"),
    [
        ({"ss_network_args": '{"wd_on_output": "True"}'}, "output"),
        ({"ss_network_args": '{"wd_on_output": false}'}, "input"),
        ({"ot_config": '{"lora_decompose_output_axis": false}'}, "input"),
    ],
)
def test_else_the_header_may_tell(read, header, axis):
    tensors, _ = vectors(SQUARE)
    assert read(tensors, header).changes[TO_Q].axis == axis


@pytest.mark.parametrize("header", [None, {"ss_network_args": "not JSON"}])
def test_else_it_is_refused(read, header):
    with pytest.raises(AdapterError, match="may be per output or per input, which nothing tells"):
        read(vectors(SQUARE)[0], header)


def test_lora_te_is_the_first_text_encoder_and_said_so(read):
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    contents = read(
        with_alphas({name: {"lora_down.weight": draw(2, 64), "lora_up.weight": draw(64, 2)}}, 1.0)
    )
    assert list(contents.changes) == [TEXT_1]
    assert "first text encoder" in contents.notes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_in_fewer_bits_are_read_as_they_are(read, layers, dtype):
    a, b = draw(4, 192).to(dtype), draw(192, 4).to(dtype)
    name = f"lora_unet_{KOHYA_BLOCK}_attn1_to_q"
    contents = read(
        {
            f"{name}.lora_down.weight": a,
            f"{name}.lora_up.weight": b,
            f"{name}.alpha": torch.tensor(4.0, dtype=torch.float16),
        }
    )
    assert contents.changes[TO_Q].down.dtype == dtype
    assert_same(moved(contents, TO_Q, layers)[0], product(b.float(), a.float(), 1))


def test_what_a_header_says_is_never_used_as_a_path(read):
    name = f"lora_unet_{KOHYA_BLOCK}_attn1_to_q"
    header = {"ss_sd_model_name": "../../etc/passwd", "ss_output_name": "/etc/\x1b[2J\n"}
    tensors = {f"{name}.lora_down.weight": draw(4, 192), f"{name}.lora_up.weight": draw(192, 4)}
    assert read(tensors, header).header == header
