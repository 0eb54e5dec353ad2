"""What one training step of each method costs on SDXL's full-size UNet with random weights.

    python benchmarks/full_size_step.py --precision bf16 fp16 --batch-size 1 4

Weights, latents and captions are random, which changes neither time nor memory; nothing is
downloaded.  Each method and precision is measured in a process of its own, through the same
loop as a real run.  One JSON object a line goes to standard output.
"""

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from random_dataset import Shape, open_pictures, write_store

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.inventory import count_parameters, count_trainable_parameters
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.mini import architecture
from rasengan_xl.ranks import ALONE
from rasengan_xl.runs.cost import (
    memory_kind,
    peak_memory_gib,
    peak_memory_reserved_gib,
    summarise_idleness,
    summarise_seconds,
)
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.full_size import POOLED_WIDTH, TOKENS, UNET_CONFIG, build_full_size_unet
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule
from rasengan_xl.sdxl.objective import build_objective
from rasengan_xl.sdxl.quantization import quantize
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.loop import Task, train_steps
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.state import TrainingState

METHODS = ("lora", "qlora-normal", "qlora-aggressive", "dora")
PICTURES = 16


def measure(settings: RunSettings, store: Path, *, small: bool) -> dict[str, object]:
    """Take the steps that the settings ask for and return what they cost."""
    compute = choose_compute(settings.compute)
    torch.manual_seed(0)
    unet = build_unet(compute, small=small)
    if STORAGES[settings.adapter.base_precision].is_quantized:
        quantize(unet, compute, settings.adapter.base_precision)
        gc.collect()  # a real run quantizes from main memory: what was whole here leaves no trace
        torch.cuda.empty_cache()
    unet.to(compute.device)
    if settings.training.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    adapter = attach_adapter(unet, settings.adapter, settings.seed)
    optimizer = build_optimizer(adapter.parameters, settings.training)
    state = TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
        given=GivenWeights(adapter.parameters, optimizer, settings.training.ema_decay),
    )
    schedule = NoiseSchedule(
        alpha_bars=architecture.build_scheduler().alphas_cumprod, prediction_type="epsilon"
    )
    shape = shape_of(settings.dataset.resolution, compute.dtype, small=small)
    write_store(store, PICTURES, PICTURES, shape)
    pictures = open_pictures(store, PICTURES, PICTURES, shape)
    task = Task(
        stream=build_stream(pictures, settings, len(schedule.alpha_bars), ALONE),
        objective=build_objective(schedule, settings.objective).to(compute.device),
        compute=compute,
        settings=settings.training,
    )
    records = list(train_steps(state, task))
    seconds, idleness = summarise_seconds(records), summarise_idleness(records)
    return {
        "trainable_parameters": count_trainable_parameters(unet),
        "total_parameters": count_parameters(unet),
        "seconds_per_step": seconds.model_dump() if seconds else None,
        "loader_idle_share": idleness.model_dump() if idleness else None,
        "peak_memory_gib": peak_memory_gib(compute.device),
        "peak_memory_reserved_gib": peak_memory_reserved_gib(compute.device),
        "memory_kind": memory_kind(compute.device),
        "skipped_steps": sum(record.skipped for record in records),
        "last_loss": records[-1].loss,
        "machine": describe_machine(compute.device).model_dump(),
    }


def build_unet(compute: Compute, *, small: bool) -> torch.nn.Module:
    """Build the UNet on the device in the compute precision, never in float32 beside it."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(compute.dtype)
    try:
        with torch.device(compute.device):
            return architecture.build_unet() if small else build_full_size_unet()
    finally:
        torch.set_default_dtype(default)


def shape_of(resolution: int, dtype: torch.dtype, *, small: bool) -> Shape:
    """Return the sizes of what the UNet is shown."""
    return Shape(
        resolution=resolution,
        latent_side=resolution // (4 if small else 8),
        tokens=TOKENS,
        text_width=2 * architecture.TEXT_WIDTH if small else UNET_CONFIG["cross_attention_dim"],
        pooled_width=architecture.TEXT_WIDTH if small else POOLED_WIDTH,
        dtype=dtype,
    )


def settings_for(
    method: str, arguments: argparse.Namespace, precision: str, batch: int
) -> RunSettings:
    """Turn the arguments into the settings of one measurement."""
    return load_recipe(
        method,
        [
            f"dataset.resolution={arguments.resolution}",
            f"training.steps={arguments.steps}",
            "training.warmup_steps=1",
            "training.accumulation=1",
            f"training.batch_size={batch}",
            f"training.gradient_checkpointing={str(arguments.checkpointing).lower()}",
            f"compute.device={arguments.device}",
            f"compute.precision={precision}",
            *arguments.overrides,
        ],
    )


def main() -> None:
    """Measure one case, or start a process for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp16"])
    parser.add_argument("--batch-size", nargs="+", type=int, default=[1])
    parser.add_argument("--resolution", type=int, default=512, help="pixels")
    parser.add_argument("--steps", type=int, default=25, help="the first five are not timed")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="mini SDXL's UNet, to try the script")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        settings = RunSettings.model_validate_json(arguments.one)
        with TemporaryDirectory() as store:
            print(json.dumps(measure(settings, Path(store), small=arguments.small)))
        return
    for precision in arguments.precision:
        for batch in arguments.batch_size:
            for method in arguments.methods:
                settings = settings_for(method, arguments, precision, batch)
                case = {"method": method, "precision": precision, "batch_size": batch}
                case |= {
                    "resolution": arguments.resolution,
                    "checkpointing": arguments.checkpointing,
                    "overrides": arguments.overrides,
                }
                print(
                    json.dumps({**case, **run_apart(settings, small=arguments.small)}), flush=True
                )


def run_apart(settings: RunSettings, *, small: bool) -> dict[str, object]:
    """Measure in a fresh process, so that no case leaves memory behind for the next."""
    command = [sys.executable, __file__, "--one", settings.model_dump_json()]
    answer = subprocess.run(
        command + (["--small"] if small else []), capture_output=True, text=True, check=False
    )
    if answer.returncode:
        return {"failed": answer.stderr.strip().splitlines()[-1]}
    return json.loads(answer.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
