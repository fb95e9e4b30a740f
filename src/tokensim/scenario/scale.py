"""``scale`` of a pool: its devices with more or less of something, as factors of what the catalog says."""

from __future__ import annotations

from tokensim.scenario.fields import Positive
from tokensim.scenario.section import Section


class Scale(Section):
    """Devices that are not quite those of the catalog: a factor for each of their abilities.

    See ``tokensim.cost.carried`` for how times of operators follow. The engine's own defaults stay those of
    the device without it, and so do price and power.
    """

    compute: Positive = 1.0
    """Times the FLOP/s of every dtype."""
    bandwidth: Positive = 1.0
    """Times the bandwidth of the device's memory."""
    memory: Positive = 1.0
    """Times its size, which KV blocks follow from (unless `num_gpu_blocks` is given)."""
    intra_node: Positive = 1.0
    """Times the bandwidth to other devices of the node."""
    inter_node: Positive = 1.0
    """Times the bandwidth to other nodes."""
    host_link: Positive = 1.0
    """Times the bandwidth to the host's memory."""
    host: Positive = 1.0
    """Times the speed of the host: of the engine's process and of the API process."""

    def changed(self) -> dict[str, float]:
        """The factors that are not 1, by name."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) != 1.0}
