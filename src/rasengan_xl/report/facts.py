"""Under what conditions the figures came about: dataset, machine and software, term by term."""

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.report.numbers import write_count, write_digits
from rasengan_xl.report.settings import flatten, write_setting
from rasengan_xl.runs.records import DatasetFacts, Machine

PICTURE_KEYS = ("sampler_steps", "guidance", "size")
"""Settings that are named above the pictures; all of them stand at the end of the page."""


def list_dataset_facts(dataset: DatasetFacts | None) -> dict[str, str]:
    """Describe which pictures the arms saw, and which were left out."""
    if dataset is None:
        return {}
    return {
        "source": dataset.source,
        "revision": dataset.revision or "none",
        "pictures found": write_count(dataset.found),
        "pictures to train on": write_count(dataset.train),
        "pictures held out": write_count(dataset.held_out),
        "pictures left out": _list_counts(dataset.skipped),
        "other files ignored": _list_counts(dataset.ignored_files),
        "pictures enlarged": write_count(dataset.upscaled),
        "captions cut short": write_count(dataset.captions_cut),
        "fingerprint (SHA-256)": dataset.fingerprint,
    }


def list_machine_facts(machine: Machine | None) -> dict[str, str]:
    """Describe the machine, as far as the figures depend on it."""
    if machine is None:
        return {}
    facts = {"device": f"{machine.device_name} ({machine.device})"}
    if machine.device_memory_gib is not None:
        facts["device memory"] = f"{write_digits(machine.device_memory_gib)} GiB"
    return facts | {
        "processes": write_count(machine.processes),
        "processor cores": str(machine.cores),
        "memory": f"{write_digits(machine.memory_gib)} GiB",
        "platform": machine.platform,
        "python": machine.python,
        "commit of the code": machine.commit or "not run from a checkout",
    }


def list_work_facts(comparison: Comparison) -> dict[str, str]:
    """Describe how the work was done: side by side, how fast the device is, shared phases."""
    facts = {"runs side by side": str(comparison.jobs)}
    if probe := comparison.probe:
        facts["matrix products"] = (
            f"{write_digits(probe.teraflops_per_second)} TFLOP/s ({probe.precision}, side "
            f"{probe.side}, the most in {write_digits(probe.seconds)} s)"
        )
    for peak in comparison.memory:
        facts[f"peak memory to {peak.phase}"] = f"{peak.allocated_gib:.2f} GiB ({peak.kind})"
    for encoder in comparison.encoders:
        identity = f", {encoder.identity[:12]}" if encoder.identity else ", absent"
        facts[f"encoder {encoder.key}"] = f"{encoder.name}{identity}"
    return facts


def describe_drawing(comparison: Comparison) -> str:
    """Say how the pictures were drawn."""
    settings = comparison.picture_settings
    shown = [key for key in PICTURE_KEYS if settings.get(key) is not None]
    how = ", ".join(f"{key.replace('_', ' ')} {write_setting(settings[key])}" for key in shown)
    return (
        "Every prompt of the comparison is here and none was picked; each was drawn once, and all "
        "pictures of a row start from the same noise, that of the picture seed beside the prompt."
        + (f" {how[:1].upper()}{how[1:]}." if how else "")
    )


def list_plain(settings: dict[str, object]) -> dict[str, str]:
    """Write out settings by their dotted keys; prompts stand beside their pictures."""
    return {
        key: write_setting(value) for key, value in flatten(settings).items() if key != "prompts"
    }


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{write_count(n)} {what}" for what, n in counts.items() if n) or "0"
