"""The loads of `descant bench` (server/cli/bench/workload.h), for the peers.

Standard library only: every peer's environment imports it. A leg is what is
timed as one; W-single and W-eight have two.
"""

import dataclasses
import random

PROMPT_TOKENS = 128
OUTPUT_TOKENS = 64
VOCABULARY = 49152  # SmolLM2-135M-Instruct


@dataclasses.dataclass(frozen=True)
class Shape:
    """Adapters of one kind. alpha / rank is 16, as in `descant bench`."""
    name: str
    rank: int
    modules: tuple


NARROW = Shape("narrow", 8, ("q_proj", "v_proj"))
WIDE = Shape("wide", 16, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                          "up_proj", "down_proj"))
SHAPES = {shape.name: shape for shape in (NARROW, WIDE)}
ADAPTERS = 32  # of each shape


@dataclasses.dataclass(frozen=True)
class Leg:
    name: str
    requests: int = 64
    in_flight: int = 32
    adapters: int = 0  # request i uses adapter i mod this; 0: the base model
    shape: str = "narrow"


LEGS = {leg.name: leg for leg in (
    Leg("W-single/base", requests=4, in_flight=1),
    Leg("W-single/adapter", requests=4, in_flight=1, adapters=1),
    Leg("W-eight/base", requests=16, in_flight=8),
    Leg("W-eight/adapters", requests=16, in_flight=8, adapters=8),
    Leg("W-base"),
    Leg("W-mixed", adapters=32),
    Leg("W-wide", adapters=32, shape="wide"),
)}


def workload_of(leg):
    return leg.split("/")[0]


def requests(leg, seed):
    """[(prompt ids, adapter number or None)], the same for the same seed."""
    draw = random.Random(f"{seed} {leg.name}")
    return [([draw.randrange(VOCABULARY) for _ in range(PROMPT_TOKENS)],
             i % leg.adapters if leg.adapters else None)
            for i in range(leg.requests)]
