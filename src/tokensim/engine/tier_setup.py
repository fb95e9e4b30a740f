"""From the ``memory`` section to the tiers of each instance: stores, lanes, and who shares them.

A copy between a tier and the device takes the tier's own lane, if it has a bandwidth of its own, the
instance's network port (``remote``), and, unless it is ``direct``, the link between device and host. Each of
the instance's devices has a port and a link, and copies its own shard of the KV, so that ``devices`` of them
together are one lane. What is written through to a lower tier is in host memory already, where a tier above
is written through too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from tokensim.engine.lanes import Lane
from tokensim.engine.tiered import Level, Store
from tokensim.engine.topology import reached_bytes_per_s
from tokensim.errors import InputError
from tokensim.hardware import Device
from tokensim.memory.tiers import Tier
from tokensim.memory.tiers.guard import make_eviction
from tokensim.metrics.log import TierUse
from tokensim.registry import register
from tokensim.scenario.memory import LATENCY_S, OWN_BANDWIDTH, Memory, MemoryTier


@dataclass(frozen=True, slots=True)
class Site:
    """An instance (or one of its data-parallel ranks) as its tiers see it: ``devices`` of the kind
    ``device``, device blocks of ``block_size`` tokens, ``token_bytes`` of KV for a token over all devices."""

    device: Device
    devices: int
    block_size: int
    token_bytes: float


@dataclass(frozen=True, slots=True)
class _Shared:
    """A store that several instances share, and what it was made from."""

    spec: MemoryTier
    token_bytes: float
    store: Store
    own: tuple[tuple[Lane, ...], tuple[Lane, ...]]


class TierBook:
    """All tiers of a cluster: makes the ``levels`` of its instances, and keeps the account of the stores."""

    def __init__(self) -> None:
        self._stores: dict[str, list[Store]] = {}
        self._shared: dict[str, _Shared] = {}

    def levels(self, memory: Memory, site: Site, where: str) -> list[Level]:
        """The tiers of one more instance; raises ``InputError`` at ``where`` for what cannot be."""
        sizes = block_sizes(memory, site.block_size, where)
        device = site.device
        host = reached_bytes_per_s(device, "host") * site.devices
        port = reached_bytes_per_s(device, "network") * site.devices
        host_read, host_write, port_read, port_write = Lane(host), Lane(host), Lane(port), Lane(port)
        levels: list[Level] = []
        in_host = False  # what is computed has come to host memory anyway
        for number, tier in enumerate(memory.tiers):
            below = memory.tiers[number + 1 : number + 2]
            tells = bool(below) and below[0].write == "back"
            store, (read, write) = self._store(tier, sizes[number], tells, site, f"{where}.tiers[{number}]")
            if tier.kind == "remote":
                read, write = (*read, port_read), (*write, port_write)
            demote = write
            if not tier.direct:
                read = (*read, host_read)
                if not in_host:
                    write = (*write, host_write)
                in_host = in_host or tier.write == "through"
            levels.append(
                Level(
                    store,
                    read,
                    write or (host_write,),
                    demote or (host_write,) if number else write,
                    _latency(tier, device),
                    tier.latency_per_block,
                )
            )
        return levels

    def use(self) -> tuple[TierUse, ...]:
        """The account of all stores, by the number of their tier."""
        return tuple(_use(name, stores) for name, stores in self._stores.items())

    def _store(
        self, spec: MemoryTier, block_tokens: int, tells: bool, site: Site, where: str
    ) -> tuple[Store, tuple[tuple[Lane, ...], tuple[Lane, ...]]]:
        name = spec.label
        shared = self._shared.get(name)
        if shared is not None:
            if not spec.shared or spec != shared.spec or site.token_bytes != shared.token_bytes:
                raise InputError(
                    f"two pools have a tier named '{name}', which is shared, but they differ in its settings"
                    " or in the bytes of a token's KV",
                    where=where,
                    hint="give the tiers names of their own, or the pools one KV dtype and parallel plan",
                )
            return shared.store, shared.own
        known = self._stores.setdefault(name, [])
        if known and (spec.shared or known[0].kind != spec.kind):
            raise InputError(
                f"two pools have a tier named '{name}', but they are not alike",
                where=where,
                hint="give the tiers names of their own",
            )
        block_bytes = block_tokens * site.token_bytes
        capacity = int(spec.capacity // block_bytes)
        if not capacity:
            raise InputError(
                f"the capacity of {spec.capacity:,.0f} bytes does not hold one block of {block_tokens} tokens"
                f" ({block_bytes:,.0f} bytes)",
                where=f"{where}.capacity",
                hint=f"at least {block_bytes:.0f} (64GiB is usual), or fewer block_tokens",
            )
        kind = register.eviction.get(spec.policy, f"{where}.policy")
        eviction = make_eviction(kind, f"{where}.policy")
        tier = Tier(capacity, block_tokens, eviction, whole=spec.granularity == "contiguous", tells=tells)
        store = Store(
            list(self._stores).index(name),
            name,
            spec.kind,
            tier,
            block_bytes,
            spec.write == "through",
            inf if spec.max_in_flight is None else spec.max_in_flight,
        )
        known.append(store)
        own = _own_lanes(spec)
        if spec.shared:
            self._shared[name] = _Shared(spec, site.token_bytes, store, own)
        return store, own


def block_sizes(memory: Memory, block_size: int, where: str) -> list[int]:
    """Tokens in a block of each tier; raises ``InputError`` where what leaves one level makes no whole blocks
    of the next."""
    sizes: list[int] = []
    for number, tier in enumerate(memory.tiers):
        size = 1 if tier.granularity == "token" else tier.block_tokens or block_size
        above = sizes[-1] if sizes else block_size
        if tier.write == "back" and above % size:
            source = f"tier '{memory.tiers[number - 1].label}' evicts" if number else "the device evicts"
            raise InputError(
                f"{source} blocks of {above} tokens, of which no blocks of {size} can be made",
                where=f"{where}.tiers[{number}].block_tokens",
                hint=f"a divisor of {above}, or write: through",
            )
        sizes.append(size)
    return sizes


def _own_lanes(tier: MemoryTier) -> tuple[tuple[Lane, ...], tuple[Lane, ...]]:
    """What limits reading and writing wherever the other end is."""
    read, write = OWN_BANDWIDTH.get(tier.kind, (None, None))
    if tier.bandwidth is not None:
        read = write = tier.bandwidth
    if tier.write_bandwidth is not None:
        write = tier.write_bandwidth
    return tuple(() if limit is None else (Lane(limit),) for limit in (read, write))  # type: ignore[return-value]


def _latency(tier: MemoryTier, device: Device) -> float:
    if tier.latency is not None:
        return tier.latency
    usual = device.inter_node.latency_s if tier.kind == "remote" else device.host_link.latency_s
    return LATENCY_S.get(tier.kind, usual)


def _use(name: str, stores: Sequence[Store]) -> TierUse:
    def total(amount: str) -> float:
        return float(sum(getattr(store, amount) for store in stores))

    return TierUse(
        name=name,
        kind=stores[0].kind,
        stores=len(stores),
        capacity_bytes=sum(store.tier.capacity * store.block_bytes for store in stores),
        used_bytes=sum(store.tier.used * store.block_bytes for store in stores),
        stored_bytes=total("stored_bytes"),
        demoted_bytes=total("demoted_bytes"),
        promoted_bytes=total("promoted_bytes"),
        evicted_bytes=sum(store.tier.evicted * store.block_bytes for store in stores),
        dropped_bytes=total("dropped_bytes"),
    )
