from rasengan_xl.generation.comfyui_graph import write_graph
from rasengan_xl.generation.parameters_text import PictureFacts, UsedAdapter
from rasengan_xl.generation.schedulers import SAMPLERS


def facts(**changes):
    values = {
        "prompt": "red++ hair",
        "negative_prompt": "ugly",
        "seed": 7,
        "width": 832,
        "height": 1216,
        "sampler_steps": 30,
        "guidance": 5.5,
        "guidance_rescale": 0.0,
        "scheduler": "dpm++2m-karras",
        "sampler": SAMPLERS["dpm++2m-karras"],
        "base_model": "owner/base",
    }
    return PictureFacts(**(values | changes))


def by_kind(graph, kind):
    return [node["inputs"] for node in graph.values() if node["class_type"] == kind]


def check_links(graph):
    for node in graph.values():
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert value[0] in graph


def test_the_graph_leads_from_the_checkpoint_through_both_adapters_to_the_picture():
    used = [UsedAdapter(name=n, file=n, strength=s) for n, s in (("one", 0.7), ("two", 1.0))]
    graph = write_graph(facts(adapters=tuple(used)))
    check_links(graph)
    (sampler,) = by_kind(graph, "KSampler")
    second = graph[sampler["model"][0]]
    assert second["inputs"]["lora_name"] == "two.safetensors"
    first = graph[second["inputs"]["model"][0]]
    assert (first["inputs"]["strength_model"], first["inputs"]["strength_clip"]) == (0.7, 0.7)
    checkpoint = graph[first["inputs"]["model"][0]]
    assert checkpoint["class_type"] == "CheckpointLoaderSimple"
    assert checkpoint["inputs"] == {"ckpt_name": "base.safetensors"}
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("dpmpp_2m", "karras")
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 30, 5.5)
    text = graph[sampler["positive"][0]]["inputs"]
    assert text["text"] == "(red:1.21) hair"
    assert graph[text["clip"][0]] is second
    assert graph[sampler["negative"][0]]["inputs"]["text"] == "ugly"
    latent = graph[sampler["latent_image"][0]]
    assert latent["inputs"] == {"width": 832, "height": 1216, "batch_size": 1}


def test_an_absent_negative_prompt_is_zeros_as_here():
    graph = write_graph(facts(negative_prompt=None))
    check_links(graph)
    (sampler,) = by_kind(graph, "KSampler")
    assert graph[sampler["negative"][0]]["class_type"] == "ConditioningZeroOut"


def test_a_picture_to_start_from_is_loaded_and_encoded():
    graph = write_graph(facts(denoise=0.4, from_picture="photo.png", guidance_rescale=0.5))
    check_links(graph)
    (sampler,) = by_kind(graph, "KSampler")
    # ComfyUI takes as many steps as it is told, and spaces them as if there were steps / denoise.
    assert (sampler["denoise"], sampler["steps"]) == (0.4, 12)
    assert graph[sampler["latent_image"][0]]["class_type"] == "VAEEncode"
    assert by_kind(graph, "LoadImage") == [{"image": "photo.png"}]
    assert graph[sampler["model"][0]]["inputs"]["multiplier"] == 0.5


def test_there_is_no_graph_with_a_sampler_that_comfyui_lacks():
    assert write_graph(facts(sampler=None)) is None
    assert write_graph(facts(sampler=SAMPLERS["tcd"])) is None
