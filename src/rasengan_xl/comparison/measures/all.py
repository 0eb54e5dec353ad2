"""Every measure of a comparison, and how the arms stand to each other in each."""

from rasengan_xl.comparison.evidence import Evidence
from rasengan_xl.comparison.measures.captions import measure_captions
from rasengan_xl.comparison.measures.costs import measure_costs
from rasengan_xl.comparison.measures.losses import measure_losses
from rasengan_xl.comparison.measures.pictures import measure_pictures
from rasengan_xl.comparison.measures.sampling import Measured
from rasengan_xl.evaluation.records import Verdict
from rasengan_xl.evaluation.verdicts import judge_measure


def measure_all(evidence: Evidence) -> list[Measured]:
    """Measure everything that the evidence bears."""
    return [
        *measure_losses(evidence),
        *measure_pictures(evidence),
        *measure_captions(evidence),
        *measure_costs(evidence),
    ]


def judge_all(measured: list[Measured]) -> list[Verdict]:
    """Compare every pair of arms in every measure."""
    return [
        verdict
        for each in measured
        for verdict in judge_measure(each.measure.key, each.measure.direction, each.arms)
    ]
