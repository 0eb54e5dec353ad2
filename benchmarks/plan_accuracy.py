"""How well `rasengan plan` foretells memory and time, on SDXL's full-size UNet with random weights.

    python -m benchmarks.plan_accuracy > accuracy.jsonl
    python -m benchmarks.plan_accuracy --table accuracy.jsonl
    python -m benchmarks.plan_accuracy --fit accuracy.jsonl

Each case is planned, then trained for a few steps by the same loop as a real run, in a process of
its own.  One JSON object a line goes to standard output, as each case is done; a case that fails
is a line that says so.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.random_dataset import Shape, open_pictures, write_store
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.mini import MODEL_FOLDER, architecture
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.gpus import GIB, GPU, GPUS, gpu_here
from rasengan_xl.planning.model_shape import ModelShape, read_shape, shape_of_sdxl
from rasengan_xl.planning.roofline import (
    fit_efficiencies,
    ideal_seconds,
    predict_seconds,
    read_timings,
)
from rasengan_xl.planning.simulate import simulate_step
from rasengan_xl.ranks import ALONE
from rasengan_xl.runs.cost import peak_memory_gib, peak_memory_reserved_gib
from rasengan_xl.runs.provenance import name_device
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.full_size import TOKENS
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule
from rasengan_xl.sdxl.objective import build_objective
from rasengan_xl.sdxl.quantization import quantize
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.loop import Task, train_steps
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.state import TrainingState

STEPS, UNTIMED = 8, 3
SMALL_SIDE = 64
"""Of pictures for mini SDXL."""
SECONDS = 90
"""Most that a case may take."""

CASES: tuple[tuple[str, int, int, dict[str, str]], ...] = (
    ("lora", 512, 1, {}),
    ("lora", 512, 8, {}),
    ("lora", 1024, 1, {}),
    ("lora", 1024, 4, {}),
    ("lora", 1024, 4, {"engine.memory": "recompute-feed-forward"}),
    ("lora", 1024, 4, {"engine.memory": "recompute-all"}),
    ("lora", 1024, 1, {"adapter.base_precision": "int8"}),
    ("qlora-normal", 1024, 1, {}),
    ("qlora-normal", 1024, 1, {"engine.memory": "recompute-all"}),
    (
        "qlora-normal",
        1024,
        1,
        {"adapter.base_precision": "nf4-small", "engine.memory": "recompute-all"},
    ),
    ("qlora-aggressive", 512, 4, {}),
    ("dora", 1024, 2, {}),
    ("lora", 512, 2, {"compute.precision": "fp16"}),
    ("lora", 1024, 1, {"engine.cuda_graph": "on"}),
    ("lora", 512, 8, {"engine.cuda_graph": "on"}),
    ("lora", 1024, 1, {"engine.implementation": "peft"}),
    ("lora", 1024, 1, {"engine.implementation": "peft", "engine.memory": "recompute-all"}),
    ("dora", 512, 1, {"engine.implementation": "peft"}),
)
"""Method, resolution, batch size, and what else is set."""


def name_case(case: tuple[str, int, int, dict[str, str]]) -> str:
    """Name a case by all that it sets."""
    method, resolution, batch, changes = case
    told = (f"{key.partition('.')[2]}={value}" for key, value in changes.items())
    return " ".join([method, f"{resolution} px", f"b{batch}", *told])


def settings_of(
    case: tuple[str, int, int, dict[str, str]], device: str, *, small: bool
) -> RunSettings:
    """Turn a case into the settings of a run; nothing is left to `auto` that memory depends on."""
    method, resolution, batch, changes = case
    chosen = {"engine.memory": "keep-all", **changes}
    if chosen.get("engine.implementation") != "peft":
        chosen.setdefault("engine.cuda_graph", "off")
    if device == "cuda":
        chosen.setdefault("compute.precision", "bf16")
    return load_recipe(
        method,
        [
            f"dataset.resolution={SMALL_SIDE if small else resolution}",
            f"training.steps={STEPS}",
            "training.warmup_steps=1",
            "training.accumulation=1",
            "training.most_skipped_share=1.0",
            f"training.batch_size={batch}",
            f"compute.device={device}",
            *(f"{key}={value}" for key, value in chosen.items()),
        ],
    )


def predict(
    settings: RunSettings, shape: ModelShape, options: EngineOptions, compute: Compute
) -> dict[str, Any]:
    """Plan the case, for this GPU or, on a CPU, for an H200."""
    gpu = gpu_here() or GPUS["H200"]
    needs = simulate_step(settings, shape, options, compute.dtype)
    time = predict_seconds(needs.work, gpu, graph=options.cuda_graph)
    workspace = workspace_gib(gpu)
    return {
        "predicted_allocated_gib": needs.peak.total / GIB + workspace,
        "predicted_reserved_gib": needs.reserved / GIB + workspace,
        "parts_gib": {kind: size / GIB for kind, size in needs.peak.kinds.items()},
        "predicted_seconds": time.seconds,
        "launch_bound": time.launch_bound,
        "ideal_seconds": ideal_seconds(needs.work, gpu),
        "kernels": needs.work.kernels,
        "teraflop": needs.work.flops / 1e12,
    }


def workspace_gib(gpu: GPU) -> float:
    """Return what cuBLAS allocates through PyTorch."""
    return gpu.workspace_mib / 1024


def measure(
    settings: RunSettings, shape: ModelShape, options: EngineOptions, compute: Compute
) -> dict[str, Any]:
    """Take the steps, and tell what they took."""
    unet = build_unet(shape, compute)
    if settings.adapter.base_precision != "full":
        # As in a real run: small weights among large ones that go would leave gaps on the GPU.
        unet.to("cpu")
        empty_cache(compute)
        quantize(unet, compute, settings.adapter.base_precision)
        unet.to(compute.device)
    adapter = attach_adapter(unet, settings.adapter, settings.seed, options)
    empty_cache(compute)
    optimizer = build_optimizer(adapter.trained, settings.training)
    state = TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
        given=GivenWeights(adapter.trained, optimizer, None, adapter.settle),
    )
    alpha_bars = architecture.build_scheduler().alphas_cumprod
    schedule = NoiseSchedule(alpha_bars=alpha_bars, prediction_type="epsilon")
    with TemporaryDirectory() as store:
        pictures = 2 * settings.training.batch_size
        sizes = sizes_of(settings, shape, compute)
        write_store(Path(store), pictures, pictures, sizes)
        shown = open_pictures(Path(store), pictures, pictures, sizes)
        task = Task(
            stream=build_stream(shown, settings, len(alpha_bars), ALONE),
            objective=build_objective(schedule, settings.objective).to(compute.device),
            compute=compute,
            settings=settings.training,
        )
        records = list(train_steps(state, task))
    on_cuda = compute.device.type == "cuda"
    seconds = [record.seconds - record.idle_seconds for record in records[UNTIMED:]]
    return {
        "seconds": statistics.median(seconds),
        "allocated_gib": peak_memory_gib(compute.device) if on_cuda else None,
        "reserved_gib": peak_memory_reserved_gib(compute.device),
        "card_gib": card_gib() if on_cuda else None,
        "notes": list(state.notes),
    }


def empty_cache(compute: Compute) -> None:
    """Give back what PyTorch holds and does not use."""
    gc.collect()
    if compute.device.type == "cuda":
        torch.cuda.empty_cache()


def card_gib() -> float:
    """Return what is taken of the whole card now, by this process if it is alone on it."""
    free, total = torch.cuda.mem_get_info()
    return (total - free) / GIB


def build_unet(shape: ModelShape, compute: Compute) -> Any:
    """Build the UNet on the device, in its precision, with random weights."""
    torch.manual_seed(0)
    unet: Any = shape.build_unet(compute.dtype).to_empty(device=compute.device)
    with torch.no_grad():
        for weights in unet.parameters():
            weights.normal_(std=0.02)
    return unet


def sizes_of(settings: RunSettings, shape: ModelShape, compute: Compute) -> Shape:
    """Return the sizes of what the UNet is shown."""
    return Shape(
        resolution=settings.dataset.resolution,
        latent_side=settings.dataset.resolution // shape.latent_share,
        tokens=TOKENS,
        text_width=shape.unet["cross_attention_dim"],
        pooled_width=shape.pooled_width,
        dtype=compute.dtype,
    )


def run_one(settings: RunSettings, *, small: bool) -> dict[str, Any]:
    """Plan and measure one case in this process."""
    compute = choose_compute(settings.compute)
    shape = shape_of_sdxl("random weights")
    if small:
        shape = read_shape(ModelFolder(path=MODEL_FOLDER, name="mini"))
    options = settle_engine(settings, shape.skeleton, compute)
    row = {"device": name_device(compute.device), "torch": torch.__version__}
    row |= {"engine": options.facts(), **predict(settings, shape, options, compute)}
    return {**row, **measure(settings, shape, options, compute)}


def run_apart(settings: RunSettings, *, small: bool) -> dict[str, Any]:
    """Measure in a fresh process, so that no case leaves memory behind for the next."""
    command = [sys.executable, "-m", "benchmarks.plan_accuracy", "--one"]
    command += [settings.model_dump_json(), *(["--small"] if small else [])]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {SECONDS} s"}
    if answer.returncode:
        return {"failed": (answer.stderr.strip().splitlines() or ["no word"])[-1]}
    return json.loads(answer.stdout.splitlines()[-1])


def render(rows: list[dict[str, Any]]) -> str:
    """Write the rows as a Markdown table, and the worst errors below it."""
    lines = [
        "| case | allocated GiB (plan) | error | reserved GiB (plan) | error | s/step (plan) "
        "| error |",
        "|---|---|---|---|---|---|---|",
    ]
    errors: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['case']} | {row['failed']} | | | | | |")
            continue
        cells: list[str] = []
        for name, unit in (("allocated", "_gib"), ("reserved", "_gib"), ("seconds", "")):
            measured, planned = row[f"{name}{unit}"], row[f"predicted_{name}{unit}"]
            if measured is None:
                cells += [f"- ({planned:.2f})", "-"]
                continue
            error = planned / measured - 1
            errors.setdefault(name, []).append((error, row["case"]))
            cells += [f"{measured:.3f} ({planned:.3f})", f"{error:+.1%}"]
        lines.append(f"| {row['case']} | {' | '.join(cells)} |")
    for name, found in errors.items():
        worst, case = max(found, key=lambda pair: abs(pair[0]))
        median = statistics.median(abs(error) for error, _ in found)
        lines.append(f"\n{name}: median error {median:.1%}, worst {worst:+.1%} ({case})")
    return "\n".join(lines)


def main() -> None:
    """Measure all cases, or one, or read what was measured."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="mini SDXL's UNet, to try the script")
    parser.add_argument(
        "--at-once", type=int, default=1, help="cases side by side: memory is told, time is not"
    )
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases, from 0")
    parser.add_argument("--table", type=Path, help="render a file of earlier rows")
    parser.add_argument("--fit", type=Path, help="fit the planner's efficiencies to earlier rows")
    parser.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        settings = RunSettings.model_validate_json(arguments.one)
        print(json.dumps(run_one(settings, small=arguments.small)))
    elif arguments.table:
        print(render([json.loads(line) for line in arguments.table.read_text().splitlines()]))
    elif arguments.fit:
        timings = read_timings(arguments.fit)
        basis = f"{len(timings)} steps of SDXL's UNet, {arguments.fit.name}"
        print(json.dumps(asdict(fit_efficiencies(timings, basis)), indent=2))
    else:
        run_all(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Measure cases, and write down each as it is done."""

    def measure_case(number: int) -> dict[str, Any]:
        settings = settings_of(CASES[number], arguments.device, small=arguments.small)
        row = run_apart(settings, small=arguments.small)
        if arguments.at_once > 1 and "failed" not in row:
            row |= dict.fromkeys(("seconds", "card_gib"))  # not of this process alone
        return {"case": name_case(CASES[number]), **row}

    with ThreadPoolExecutor(arguments.at_once) as processes:
        for row in processes.map(measure_case, arguments.only or range(len(CASES))):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
