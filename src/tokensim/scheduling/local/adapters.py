"""LoRA adapters of one instance: who may run together, which adapters are on the device, what a swap takes.

vLLM's rules. The scheduler (``scheduled_loras`` in ``vllm/v1/core/sched/scheduler.py``): a waiting request
whose adapter would be one more than ``max_loras`` in this step is passed over, and keeps its place in the
queue. The worker (``vllm/lora/worker_manager.py``, ``model_manager.py``): before a step it brings the
adapters of the batch into the slots; what is not in host memory is read from disk, what is not on the device
is copied; in both places the least recently used goes first. The step waits for both.
"""

from __future__ import annotations

from tokensim.scheduling.local.request import Request


class Adapters:
    """``max_loras`` slots on the device, ``max_cpu_loras`` places in host memory.

    ``copy_s`` is the time of one adapter from host memory to the device, ``read_s`` from disk to host memory.
    """

    def __init__(self, max_loras: int, max_cpu_loras: int, copy_s: float, read_s: float) -> None:
        self.max_loras = max_loras
        self.max_cpu_loras = max_cpu_loras
        self.copy_s = copy_s
        self.read_s = read_s
        self.active: dict[int, int] = {}  # adapter → requests that run with it
        self.passed_over: list[Request] = []  # by the step that is being made
        self.all_wait = False  # nobody in the queue may run before a slot is free: no need to look
        self._device: dict[int, None] = {}  # the least recently used first
        self._host: dict[int, None] = {}
        self._running: set[Request] = set()

    def admits(self, request: Request) -> bool:
        """Whether a step with what runs already can take ``request`` too."""
        adapter = request.traits.adapter
        return adapter < 0 or adapter in self.active or len(self.active) < self.max_loras

    def holds(self, adapter: int) -> bool:
        """Whether ``adapter`` is on the device."""
        return adapter in self._device

    def enter(self, request: Request) -> float:
        """``request`` runs from the next step on; returns for how long that step waits for its adapter."""
        adapter = request.traits.adapter
        if adapter < 0:
            return 0.0
        self._running.add(request)
        self.active[adapter] = self.active.get(adapter, 0) + 1
        seconds = 0.0
        if adapter not in self._host:
            if len(self._host) >= self.max_cpu_loras:
                gone = self._oldest(self._host)
                del self._host[gone]
                self._device.pop(gone, None)
            seconds += self.read_s
        if adapter not in self._device:
            if len(self._device) >= self.max_loras:
                del self._device[self._oldest(self._device)]
            seconds += self.copy_s
        self._used(adapter)
        return seconds

    def leave(self, request: Request) -> None:
        """``request`` is in no further step; nothing happens if it has left before."""
        if request not in self._running:
            return
        self._running.remove(request)
        adapter = request.traits.adapter
        self.active[adapter] -= 1
        if not self.active[adapter]:
            del self.active[adapter]
            self.all_wait = False
        self._used(adapter)

    def _used(self, adapter: int) -> None:
        for place in (self._host, self._device):
            place.pop(adapter, None)
            place[adapter] = None

    def _oldest(self, place: dict[int, None]) -> int:
        """The least recently used one; those that run are in use all the time."""
        return next(adapter for adapter in place if adapter not in self.active)

    def check_integrity(self) -> None:
        """Raise ``AssertionError`` if the state contradicts itself."""
        counts: dict[int, int] = {}
        for request in self._running:
            counts[request.traits.adapter] = counts.get(request.traits.adapter, 0) + 1
        assert counts == self.active, f"{self.active} should be {counts}"
        assert len(self.active) <= self.max_loras, f"{len(self.active)} adapters in {self.max_loras} slots"
        assert self.active.keys() <= self._device.keys() <= self._host.keys(), (
            "an adapter runs that is not there"
        )
        assert len(self._device) <= self.max_loras and len(self._host) <= self.max_cpu_loras
        assert not self.passed_over
