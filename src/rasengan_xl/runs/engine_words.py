"""How a run was computed, in one line."""

from collections.abc import Mapping

EngineFacts = Mapping[str, str | bool]


def tell_engine(facts: EngineFacts) -> str:
    """Say what of the engine was in use, and what was not.

    Args:
        facts: As in `RunSummary.engine`.
    """
    chosen = [str(value) for value in facts.values() if not isinstance(value, bool)]
    parts = [", ".join(chosen)]
    for word, state in (("with", True), ("without", False)):
        switches = [name for name, value in facts.items() if value is state]
        if switches:
            parts.append(f"{word} {', '.join(switches)}")
    return "; ".join(parts)
