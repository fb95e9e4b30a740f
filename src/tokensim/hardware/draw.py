"""What a device draws while it works: a constant, and something for each FLOP and each byte.

The form is that of Choi, Bedard, Fowler and Vuduc, A roofline model of energy (IPDPS 2013): power is linear
in the rates of arithmetic and traffic. Rates count as shares of the device's peaks and power as a share of
what lies between idle power and TDP, so that one set of figures serves devices of any size.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draw:
    """Shares of (TDP − idle power) that a device draws above its idle power while a step runs.

    ``busy`` all the time; ``compute`` and ``memory`` at the full rate of arithmetic and traffic, and in
    proportion below; ``network`` during collectives. Their sum is capped at 1: there the power limit holds
    the clocks down.
    """

    busy: float
    compute: float
    memory: float
    network: float
    source: str


DRAW = Draw(
    busy=0.10,
    compute=1.5,
    memory=0.40,
    network=0.20,
    source=(
        "set by hand to the published draw of serving engines, at the rates that our own model gives to a"
        " step of Llama-3.1-8B: H100 SXM at batch 1 and 128, 300 and 600 W (ML.ENERGY Benchmark v3.0); H200"
        " at batch 128, 517 W, B200 at batch 1 and 128, 452 and 606 W (Alice benchmark, June 2026, vLLM, a"
        " model of 3.8 billion weights); these come out 3 % above, 21, 5 and 6 % below and 4 % above;"
        " prefill at the power limit (Splitwise, ISCA 2024; POLCA, ASPLOS 2024); network: estimate"
    ),
)
"""For devices that have no figures of their own."""
