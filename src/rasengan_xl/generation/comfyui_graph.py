"""A picture's settings as a graph that ComfyUI loads: the PNG text chunk `prompt`."""

from typing import Any

from rasengan_xl.generation.emphasis import read_emphasis, write_emphasis
from rasengan_xl.generation.parameters_text import PictureFacts, model_name

Graph = dict[str, dict[str, Any]]


def write_graph(facts: PictureFacts) -> Graph | None:
    """Write the picture's way through ComfyUI's nodes, in the form of its API.

    The checkpoint and the adapters are named as files would be; whoever loads the graph chooses
    where they lie.  ComfyUI encodes an absent negative prompt as empty text, SDXL was trained
    with zeros: a node of its own, ConditioningZeroOut, makes them.

    Returns:
        None where ComfyUI has no such sampler.
    """
    sampler = facts.sampler
    if sampler is None or sampler.comfyui is None:
        return None
    graph: Graph = {
        "1": _node(
            "CheckpointLoaderSimple", ckpt_name=f"{model_name(facts.base_model)}.safetensors"
        )
    }
    model, clip = ["1", 0], ["1", 1]
    for number, adapter in enumerate(facts.adapters):
        key = str(10 + number)
        graph[key] = _node(
            "LoraLoader",
            model=model,
            clip=clip,
            lora_name=f"{adapter.name}.safetensors",
            strength_model=adapter.strength,
            strength_clip=adapter.strength,
        )
        model, clip = [key, 0], [key, 1]
    graph["2"] = _node("CLIPTextEncode", clip=clip, text=_text(facts.prompt))
    graph["3"] = _node("CLIPTextEncode", clip=clip, text=_text(facts.negative_prompt or ""))
    negative: list[Any] = ["3", 0]
    if facts.negative_prompt is None:
        graph["8"] = _node("ConditioningZeroOut", conditioning=negative)
        negative = ["8", 0]
    if facts.guidance_rescale:
        graph["9"] = _node("RescaleCFG", model=model, multiplier=facts.guidance_rescale)
        model = ["9", 0]
    latent = _write_start(graph, facts)
    graph["5"] = _node(
        "KSampler",
        model=model,
        positive=["2", 0],
        negative=negative,
        latent_image=latent,
        seed=facts.seed,
        steps=_steps_taken(facts),
        cfg=facts.guidance,
        sampler_name=sampler.comfyui,
        scheduler=sampler.comfyui_scheduler,
        denoise=1.0 if facts.denoise is None else facts.denoise,
    )
    graph["6"] = _node("VAEDecode", samples=["5", 0], vae=["1", 2])
    graph["7"] = _node("SaveImage", images=["6", 0], filename_prefix="rasengan")
    return graph


def _steps_taken(facts: PictureFacts) -> int:
    """Count the steps that were taken.

    From a picture, ComfyUI takes all it is told, diffusers and A1111 only the share drawn anew.
    """
    if facts.denoise is None:
        return facts.sampler_steps
    return min(int(facts.sampler_steps * facts.denoise), facts.sampler_steps)


def _write_start(graph: Graph, facts: PictureFacts) -> list[Any]:
    """Add what the sampler starts from: empty latents, or those of a picture."""
    if facts.from_picture is None:
        graph["4"] = _node("EmptyLatentImage", width=facts.width, height=facts.height, batch_size=1)
        return ["4", 0]
    graph["20"] = _node("LoadImage", image=facts.from_picture)
    graph["21"] = _node(
        "ImageScale",
        image=["20", 0],
        upscale_method="lanczos",
        width=facts.width,
        height=facts.height,
        crop="center",
    )
    graph["4"] = _node("VAEEncode", pixels=["21", 0], vae=["1", 2])
    return ["4", 0]


def _text(prompt: str) -> str:
    return write_emphasis(read_emphasis(prompt))


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}
