import torch

from rasengan_xl.tensor_file import digest_tensors, read_header, read_tensors, write_tensors


def test_what_is_written_is_read_back(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1, dtype=torch.uint8)}
    write_tensors(tmp_path / "deep" / "a.safetensors", tensors, {"key": "text"})
    read = read_tensors(tmp_path / "deep" / "a.safetensors")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert read_header(tmp_path / "deep" / "a.safetensors")["key"] == "text"


def test_a_digest_tells_names_types_shapes_bits_and_text_apart():
    ones = torch.ones(2, 3)
    flipped = ones.clone()
    flipped.view(torch.int32)[1, 2] ^= 1
    several = [
        digest_tensors({"a": ones}),
        digest_tensors({"b": ones}),
        digest_tensors({"a": ones.T}),
        digest_tensors({"a": ones.view(torch.int32)}),
        digest_tensors({"a": flipped}),
        digest_tensors({"a": ones}, "text"),
        digest_tensors({"a": torch.empty(0), "b": torch.tensor(1.0)}),
    ]
    assert len(set(several)) == len(several)
    assert digest_tensors({"x": ones, "a": ones}) == digest_tensors({"a": ones, "x": ones})
    assert digest_tensors({"a": torch.ones(3, 2).T}) == digest_tensors({"a": ones})


def test_the_same_content_gives_the_same_bytes(tmp_path):
    header = {f"key {i}": "é" * i for i in range(9)}
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for file in files:
        write_tensors(file, {"a": torch.ones(3), "b": torch.zeros(1, dtype=torch.uint8)}, header)
    assert len({file.read_bytes() for file in files}) == 1
    assert read_header(files[0]) == {"format": "pt", **header}
