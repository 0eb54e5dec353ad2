"""Files that are no adapters, or damaged, contradictory or hostile ones: each gives one line."""

import json
import os
import pickle
import random
import struct
import sys
import zipfile
from io import BytesIO

import pytest
import torch
from safetensors.torch import save, save_file

from rasengan_xl.adapters.files import find_adapter
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.cli.app import main
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.layers import list_layers, list_sdxl_layers
from rasengan_xl.sdxl.model_folder import find_model

KOHYA = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"
DIFFUSERS = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TO_K = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_input_blocks_3_0_in_layers_2"
NAN = float("nan")


@pytest.fixture(scope="module")
def layers():
    return list_layers(find_model("mini"))


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


def lora(name=KOHYA, down=(4, 192), up=(192, 4), **others):
    """Return a LoRA of a layer, with other tensors besides; None leaves one out."""
    tensors = {"lora_down.weight": ones(*down), "lora_up.weight": ones(*up), "alpha": ones()}
    return {f"{name}.{key}": t for key, t in {**tensors, **others}.items() if t is not None}


def peft(name=DIFFUSERS, **others):
    tensors = {"lora_A.weight": ones(4, 192), "lora_B.weight": ones(192, 4), **others}
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def file_of(description, content=b"", claimed=None):
    """Put a file together by hand."""
    if not isinstance(description, bytes):
        description = json.dumps(description).encode()
    length = len(description) if claimed is None else claimed
    return struct.pack("<Q", length) + description + content


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def said(**settings):
    """Return diffusers' header with settings of the UNet's adapter."""
    described = {"r": 4, "lora_alpha": 4, **settings}
    return {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in described.items()})}


def zipped():
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return content.getvalue()


SOUND = save(lora())
A, B = f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"

# What the file is -> its content, and what the line that refuses it says.
NOT_SAFETENSORS = {
    "empty": (b"", "is empty"),
    "a pickle": (pickle.dumps({"weight": [1.0] * 9}), "is a pickle, which can run any program"),
    "an old pickle": (pickle.dumps([0] * 9, protocol=2), "is a pickle"),
    "torch.save": (zipped(), "is a zip archive, such as torch.save writes"),
    "a gzip": (b"\x1f\x8b\x08\x00" + bytes(50), "is a gzip archive"),
    "a GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(50), "is a GGUF file"),
    "a web page": (b"<!doctype html><html>Access denied</html>", "is a web page"),
    "a JSON text": (b'{"error": "Invalid username or password."}', "is a JSON text"),
    "an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "only a pointer"),
    "words": (b"hello, I am an adapter", "does not begin as one"),
    "a few bytes": (b"\x10\x00\x00", "does not begin as one"),
    "zeros": (bytes(4096), "does not begin as one"),
}
DAMAGED = {
    "cut in its header": (SOUND[:100], "is cut short"),
    "cut in its tensors": (SOUND[:-10], "bytes of tensors instead of"),
    "with a tail": (SOUND + b"more", "bytes of tensors instead of"),
    "a header longer than all files": (file_of({}, claimed=2**63), "is cut short"),
    "a huge header": (file_of(b"{" + b" " * (26 * 2**20)), "has a header of"),
    "a header that is no JSON": (file_of(b"{'a': 1}"), "its header is not JSON"),
    "a header that is no text": (file_of(b'{"\xff\xfe": 1}'), "its header is not JSON"),
    "half a character": (file_of(b'{"\\ud800": 1}'), "its header is not JSON"),
    "nested without end": (file_of(b'{"a":' * 200_000), "its header is not JSON"),
    "a name twice": (
        file_of(b'{"a":' + json.dumps(entry()).encode() + b',"a":1}', bytes(4)),
        "its header names a twice",
    ),
    "texts that are numbers": (file_of({"__metadata__": {"a": 1}}), "__metadata__.a"),
    "texts that are a list": (file_of({"__metadata__": ["a"]}), "__metadata__ in its header"),
    "only texts": (file_of({"__metadata__": {"a": "b"}}), "holds no tensors"),
    "an entry that is none": (file_of({A: [1, 2]}), "does not describe lora_unet_input"),
    "a type of its own": (file_of({A: entry("Q4_K")}, bytes(4)), "is stored as Q4_K"),
    "a negative length": (file_of({A: entry(shape=(-1, -1))}, bytes(4)), "a shape that is none"),
    "a shape without end": (file_of({A: entry(shape=(2,) * 99)}), "a shape that is none"),
    "a size that is not its shape's": (file_of({A: entry(shape=(2,))}, bytes(4)), "the size"),
    "tensors that share bytes": (file_of({A: entry(), B: entry()}, bytes(4)), "does not follow"),
    "tensors beyond the end": (file_of({A: entry(offsets=(4, 8))}, bytes(8)), "does not follow"),
    "a tensor of nothing": (save({A: ones(0, 192)}), "holds nothing"),
    "a name of a book": (file_of({"a" * 5000: entry()}, bytes(4)), "has 5,000 characters"),
    "a million tensors": (file_of({str(i): 0 for i in range(50_001)}), "holds 50,001 tensors"),
}
CONTRADICTORY = {
    "no adapter": (save({"model.weight": ones(2)}), "holds no adapter"),
    "a name of no trainer": (save({**lora(), "a.b": ones(1)}), "1 of 4 names are not understood"),
    "a layer of no model": (save(lora("lora_unet_attic")), "1 layers that the base model has not"),
    "two ways of naming": (save({**lora(), **peft()}), "mixes names of kohya"),
    "no factors": (save(lora() | {f"{CONV}.alpha": ones()}), "conv1 has no factors"),
    "only an up": (save({B: ones(192, 4)}), "lacks its factor down"),
    "alpha for some": (
        save({**lora(), **lora(TO_K, (4, 128), alpha=None)}), "1 of 2 layers have no alpha, first",
    ),
    "alpha of none": (save(lora(alpha=torch.tensor(0.0))), "alpha is 0; it must be"),
    "alpha below none": (save(lora(alpha=torch.tensor(-2.0))), "alpha is -2; it must be"),
    "alpha that is no number": (save(lora(alpha=torch.tensor(NAN))), "alpha is nan; it must be"),
    "alpha without end": (save(lora(alpha=torch.tensor(float("inf")))), "alpha is inf; it"),
    "alphas": (save(lora(alpha=ones(2))), "is [2], not one number"),
    "two alphas": (save(peft(alpha=ones()), said()), "among the weights and 4 in the header"),
    "NaN": (save(lora() | {B: torch.full((192, 4), NAN)}), "NaN or infinity in 768 of 768"),
    "infinity": (save(lora() | {A: ones(4, 192).log() / 0}), "holds NaN or infinity"),
    "whole numbers": (save(lora() | {A: ones(4, 192, dtype=torch.int8)}), "is stored as I8"),
    "another layer's shape": (save(lora(down=(4, 128))), "is [4, 128], which does not fit"),
    "two ranks": (save(lora(up=(192, 8))), "is [192, 8], which does not fit"),
    "a vector": (save(lora(down=(768,))), "is [768], which does not fit"),
    "a kernel too many": (save(lora(down=(4, 192, 3, 3))), "does not fit"),
    "a kernel too few": (save(lora(CONV, (4, 64))), "does not fit"),
    "LoRA and LoHa": (save(lora(hada_w1_a=ones(192, 4))), "a factor too many (hada_w1_a)"),
    "half a LoHa": (save({f"{KOHYA}.hada_w1_b": ones(4, 192)}), "lacks its factor hada_w1_a"),
    "LoKr that does not divide": (
        save({f"{KOHYA}.lokr_w1": ones(5, 8), f"{KOHYA}.lokr_w2": ones(38, 24)}),
        "is [5, 8], which does not fit",
    ),
    "one layer twice": (
        save(lora() | {
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
            ".lora_up.weight": ones(192, 4),
        }),
        "changes one layer twice",
    ),
    "magnitudes of another layer": (save(lora(dora_scale=ones(7, 1))), "is [7, 1], which does"),
    "magnitudes per weight": (save(lora(dora_scale=ones(192, 192))), "which does not fit"),
    "magnitudes that nothing tells apart": (save(lora(dora_scale=ones(192))), "per output or per"),
    "ai-toolkit's DoRA, scaled": (save(lora(magnitude=ones(192))), "only its files with alpha ="),
    "a header of another rank": (save(peft(), said(r=8)), "has rank 4, but its settings say 8"),
    "a DoRA that is none": (save(peft(), said(use_dora=True)), "say use_dora = True, but"),
    "settings that are no JSON": (
        save(peft(), {"lora_adapter_metadata": "{../../etc/passwd}\x1b[31m"}),
        "lora_adapter_metadata is not JSON",
    ),
    "settings without end": (
        save(peft(), {"lora_adapter_metadata": "[" * 100_000}), "is not JSON",
    ),
    "an alpha that is a path": (
        save(peft(), said(lora_alpha="../../etc/\x1b[2J\n")),
        r"lora_alpha is ../../etc/\x1b[2J\n; it must be",
    ),
    "an endless expression": (save(peft(), said(alpha_pattern={"(a+)+$": 2})), "write out the"),
    "a name that paints the terminal": (
        save({**lora(), "\x1b[31mred\x07\r\u202ename": ones(1)}),
        r"\x1b[31mred\x07\r\u202ename",
    ),
    "paths for names": (save({**lora(), "../../etc/passwd": ones(1)}), "../../etc/passwd"),
    "OFT": (save({f"{KOHYA}.oft_blocks": ones(2, 4, 4)}), "cannot be used here: OFT"),
    "trained norms": (
        save({**lora(), "lora_unet_out_0.w_norm": ones(64)}), "changed normalization layers",
    ),
    "embeddings": (save({**lora(), "bundle_emb.me.clip_l": ones(1, 8)}), "bundled by OneTrainer"),
}  # fmt: skip
FOREIGN = {
    "SD 1.5": (
        save(lora("lora_te_text_model_encoder_layers_0_mlp_fc1", (4, 768), (3072, 4))
             | lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
                    (4, 768), (320, 4))),
        "is for Stable Diffusion 1,",
    ),
    "SD 2": (
        save(lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_v",
                  (4, 1024), (640, 4))),
        "is for Stable Diffusion 2,",
    ),
    "Flux of kohya": (
        save(lora("lora_unet_double_blocks_0_img_attn_qkv", (4, 3072), (9216, 4))), "is for Flux,",
    ),
    "Flux of diffusers": (
        save(peft("transformer.single_transformer_blocks.0.attn.to_q")), "is for Flux,",
    ),
    "SD 3": (
        save(peft("transformer.transformer_blocks.0.attn.add_k_proj")),
        "is for Stable Diffusion 3,",
    ),
    "a video model": (
        save(peft("diffusion_model.blocks.0.self_attn.q")), "is for a diffusion transformer,",
    ),
}  # fmt: skip
MALFORMED = {**NOT_SAFETENSORS, **DAMAGED, **CONTRADICTORY, **FOREIGN}


def is_one_clear_line(line):
    return len(line) <= 340 and line.isprintable() and "Traceback" not in line


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_file_gives_one_line(what, layers, tmp_path):
    content, reason = MALFORMED[what]
    file = tmp_path / ("long" * 30) / "a.safetensors"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(AdapterError) as refused:
        read_adapter(file, layers)
    line = str(refused.value)
    assert reason in line
    assert is_one_clear_line(line), line
    assert "a.safetensors" in line


def test_whatever_happens_to_a_header_the_file_is_read_or_refused_in_one_line(layers, tmp_path):
    file, draw = tmp_path / "a.safetensors", random.Random(0)
    sound = save(lora(dora_scale=ones(192, 1)), {"ss_network_args": '{"wd_on_output": true}'})
    header_end = 8 + int.from_bytes(sound[:8], "little")
    lines: list[str] = []
    for _ in range(300):
        damaged = bytearray(sound)
        damaged[draw.randrange(header_end)] = draw.choice(b'0123456789{}[],:".-_ aF\x00\x80\xff')
        file.write_bytes(damaged)
        try:
            read_adapter(file, layers)
        except AdapterError as error:
            lines.append(str(error))
    assert len(lines) > 100
    assert all(map(is_one_clear_line, lines)), lines


@pytest.mark.parametrize("base", ["mini", "SDXL"])
def test_an_adapter_of_sdxl_is_told_from_one_of_another_size(base, layers, tmp_path):
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    file = tmp_path / "a.safetensors"
    save_file(lora(name, (4, 2048), (640, 4)), file)
    if base == "SDXL":
        assert len(read_adapter(file, list_sdxl_layers()).changes) == 1
    else:
        with pytest.raises(AdapterError, match="is for SDXL, not for this base model"):
            read_adapter(file, layers)


class Payload:
    """What a pickle can do: run a program of its own as it is opened."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return (os.mkdir, (self.trace,))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.ckpt", "pytorch_lora_weights.bin"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_is_never_opened(layers, tmp_path, name, zipped):
    trace, file = tmp_path / "trace", tmp_path / name
    torch.save({"weight": Payload(trace)}, file, _use_new_zipfile_serialization=zipped)
    for look in (find_adapter, lambda path: read_adapter(path, layers)):
        with pytest.raises(AdapterError, match="is a (pickle|zip archive)"):
            look(file)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))  # as it would have, had it been opened
    assert trace.exists()


def test_a_pickle_behind_a_header_that_looks_right_is_not_opened(layers, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(file_of(b"{" + pickle.dumps(Payload(tmp_path / "trace"))))
    with pytest.raises(AdapterError, match="not JSON"):
        read_adapter(file, layers)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("look", ["find", "read"])
@pytest.mark.parametrize("what", ["missing", "a folder", "a loop", "a pipe", "unreadable"])
def test_what_is_no_readable_file_gives_one_line(what, look, layers, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    match what:
        case "a folder":
            path.mkdir()
        case "a loop":
            path.symlink_to(path)
        case "a pipe":
            os.mkfifo(path)
        case "unreadable":
            path.write_bytes(SOUND)
            monkeypatch.setattr(type(path), "open", refuse)
        case _:
            pass
    with pytest.raises(AdapterError) as refused:
        find_adapter(path) if look == "find" else read_adapter(path, layers)
    assert is_one_clear_line(str(refused.value))


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_folder_with_one_foreign_file_is_that_adapter(tmp_path):
    save_file(lora(), tmp_path / "their style.safetensors")
    assert find_adapter(tmp_path).name == "their style.safetensors"
    save_file(lora(), tmp_path / "another.safetensors")
    with pytest.raises(AdapterError, match="holds 2 .safetensors files"):
        find_adapter(tmp_path)


@pytest.mark.parametrize("what", ["a pickle", "cut in its header", "no adapter"])
def test_the_command_line_refuses_with_status_2(what, tmp_path, capsys, monkeypatch):
    content, reason = MALFORMED[what]
    file = tmp_path / "bad.safetensors"
    file.write_bytes(content)
    words = ["rasengan", "generate", str(file), "--base", "mini", "--prompt", "x"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr("rasengan_xl.cli.app.quieten_imports", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert " ".join(reason.split()) in " ".join((shown.out + shown.err).split())
    assert "Traceback" not in shown.err
