"""How a training step is computed: what it costs, not what comes out of it."""

from typing import Literal

from rasengan_xl.config.fields import Settings

Switch = Literal["auto", "on", "off"]
MemoryMode = Literal["keep-all", "recompute-feed-forward", "recompute-all"]


class EngineSettings(Settings):
    """How a training step is computed.

    Every way gives the same gradients up to rounding; each can be switched off alone.
    """

    implementation: Literal["auto", "fused", "peft"] = "auto"
    """Our own layers, or PEFT's with diffusers' modules as they are; `auto` is `fused` unless a
    target is a convolution.  What follows is of our own layers alone, but for `recompute-all`."""
    memory: Literal["auto", "keep-all", "recompute-feed-forward", "recompute-all"] = "auto"
    """What of the forward pass is kept for the backward pass: all that it needs; all but the
    feed-forward layers' hidden values; only what each block starts from.  `auto` is the first of
    them that fits into the GPU's free memory."""
    group_projections: bool = True
    """Multiply by the weights of layers that share an input at once."""
    batch_text_projections: bool = True
    """Compute keys and values of all cross-attention layers at once, before the first."""
    lean_feed_forward: bool = True
    """Keep one tensor of a feed-forward layer, not three."""
    recompute_norms: bool = True
    """Compute normalised values again in the backward pass, rather than keep them."""
    frozen_convolutions: bool = True
    """Do not keep inputs of convolutions that are not trained."""
    fused_group_norm: bool = True
    """GroupNorm and SiLU in one, of which only the input is kept."""
    channels_last: Switch = "auto"
    """Order pictures' numbers by place, then channel; `auto`: on a GPU."""
    attention: Literal["auto", "default", "cudnn", "flash", "efficient", "math"] = "auto"
    """Kernel of attention; `auto`: the fastest for each shape, measured once a machine;
    `default`: whichever PyTorch chooses.  On a GPU only `efficient` and `math` repeat to the bit:
    `cudnn` and `flash`, which `auto` may choose, add up in an order of their own in the backward
    pass, so that neither another run of the same settings nor a resumed one has the same losses to
    the last bit."""
    cuda_graph: Switch = "auto"
    """Record the kernels of a step once for each size of pictures, then launch them all at once;
    `auto`: on a GPU, where nothing in the step stands against it."""
    compile: bool = False
    """Have torch.compile fuse what is not ours in the blocks of convolutions."""
    cache_text_kv: bool = False
    """Keep the base's keys and values of each caption on disk instead of the weights that make
    them in GPU memory: 25.6 MB a caption in 16 bits, 0.64 GiB less (NF4: 0.16); not with
    `decompose`."""
    int8_compute: Switch = "off"
    """Multiply int8 weights as integers, which rounds what goes through the layers as well; only
    with `base_precision = "int8"`; `auto`: where it is measured to be faster."""
