"""Under what conditions the figures came about: the dataset and the machine, term by term."""

from rasengan_xl.report.numbers import write_count
from rasengan_xl.runs.records import DatasetFacts, Machine


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
        facts["device memory"] = f"{machine.device_memory_gib:g} GiB"
    return facts | {
        "processes": write_count(machine.processes),
        "processor cores": str(machine.cores),
        "memory": f"{machine.memory_gib:g} GiB",
        "platform": machine.platform,
        "python": machine.python,
        "commit of the code": machine.commit or "not run from a checkout",
    }


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{write_count(n)} {what}" for what, n in counts.items() if n) or "0"
