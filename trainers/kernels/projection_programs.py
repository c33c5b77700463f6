# pyright: basic, reportArgumentType=false
"""The program of a projection, in the language of Triton; see `trainers.kernels.projection`."""

import triton
import triton.language as tl

from trainers.kernels.programs import in_row

PROJECTION_NUMBERS = [
    *("into_n", "basis_n", "basis_k", "vectors_n", "scales_n", "scales_k"),
    *("lanes", "abreast", "most", "size", "total", "num_parts", "num_shares"),
]
"""What `projection` is not compiled anew for."""


@triton.jit(do_not_specialize=PROJECTION_NUMBERS)
def projection(
    into, into_n, basis, basis_n, basis_k, vectors, vectors_n, scales, scales_n, scales_k,
    rates, counts, places, sums, factors, done, lanes, abreast, most, size, total, num_parts, num_shares,
    UNIT: tl.constexpr, PLACES: tl.constexpr, RATES: tl.constexpr, BLOCK: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Compute a part of a lane's inner products, or add what follows from all of them to a share of a row.

    Programs number themselves as they begin, and who waits has a higher number than those he waits for, who
    wait for nobody. Few lanes are under way at a time, so that a cache still holds their directions when they
    are read again.
    """
    number = tl.atomic_add(done + lanes, 1)
    in_turn = abreast * (num_parts + num_shares)
    turn, rest = number // in_turn, number % in_turn
    if rest < abreast * num_parts:
        n, part = turn * abreast + rest // num_parts, rest % num_parts
        if n < lanes:
            count = tl.load(counts + n)
            at = part * BLOCK + tl.arange(0, BLOCK)
            inside, loaded = at < size, in_row(at, size, UNIT)
            entry = tl.load(places + at, mask=inside, other=0) if PLACES else at
            values = tl.load(vectors + n.to(tl.int64) * vectors_n + entry, mask=inside, other=0.0)
            row = basis + n.to(tl.int64) * basis_n * UNIT + at
            own = sums + n.to(tl.int64) * most * num_parts
            found = tl.load(row, mask=loaded & (at * 0 < count), other=0.0, eviction_policy="evict_last")
            for k in range(count):
                row += basis_k * UNIT
                after = tl.load(
                    row, mask=loaded & (at * 0 + k + 1 < count), other=0.0, eviction_policy="evict_last"
                )
                tl.store(own + k * num_parts + part, tl.sum(tl.where(inside, found, 0.0) * values))
                found = after
            tl.debug_barrier()
            if tl.atomic_add(done + n, 1, sem="acq_rel") == num_parts - 1:
                # The last one adds them up.
                tl.debug_barrier()
                for k in range(count):
                    product = tl.zeros((), dtype=tl.float32)
                    for first in range(0, num_parts, AT_ONCE):
                        other = first + tl.arange(0, AT_ONCE)
                        there = own + k * num_parts + other
                        product += tl.sum(
                            tl.load(there, mask=other < num_parts, other=0.0, cache_modifier=".cg")
                        )
                    scale = tl.load(scales + n * scales_n + k * scales_k)
                    tl.store(factors + n * most + k, product * scale)
                tl.debug_barrier()
                tl.atomic_add(done + n, 1, sem="release")
    else:
        rest -= abreast * num_parts
        n, share = (turn - 1) * abreast + rest // num_shares, rest % num_shares
        if (n >= 0) & (n < lanes):
            count = tl.load(counts + n)
            at = share * BLOCK + tl.arange(0, BLOCK)
            here, inside, loaded = at < total, at < size, in_row(at, size, UNIT)
            entry = tl.load(places + at, mask=here, other=0) if PLACES else at
            target = into + n.to(tl.int64) * into_n + entry
            values = tl.load(target, mask=here, other=0.0)
            if RATES:
                vector = tl.load(vectors + n.to(tl.int64) * vectors_n + entry, mask=here, other=0.0)
                values += tl.load(rates + n) * vector
            row = basis + n.to(tl.int64) * basis_n * UNIT + at
            ready = tl.atomic_add(done + n, 0, sem="acquire")
            while ready <= num_parts:
                ready = tl.atomic_add(done + n, 0, sem="acquire")
            tl.debug_barrier()
            found = tl.load(row, mask=loaded & (at * 0 < count), other=0.0, eviction_policy="evict_first")
            for k in range(count):
                factor = tl.load(factors + n * most + k, cache_modifier=".cg")
                row += basis_k * UNIT
                after = tl.load(
                    row, mask=loaded & (at * 0 + k + 1 < count), other=0.0, eviction_policy="evict_first"
                )
                values += factor * tl.where(inside, found, 0.0)
                found = after
            tl.store(target, values, mask=here)
