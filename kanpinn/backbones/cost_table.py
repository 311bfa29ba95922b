"""Costs of the operations by which JᵀJ can be formed, one table per device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CostTable:
    """Seconds per operation, in units of half a multiplication of a large product; the defaults are those of a CPU.

    As measured on one core (EPYC, AVX-512). A symmetric product JᵀJ of `[N, P]` is N P² such units.

    Attributes:
        large: One multiplication of a large product.
        small: One of batched small products.
        moved: One number gathered or scattered.
        entry: One entry of J or of a table.
        call: One piece and cut of a table.
        part_product: One unit of a part's own product.
        part_places: Points whose product costs as much as a part's scattering to its places.
        part_entry: One entry of a part's rows.
        part_call: One part.
    """

    large: float = 2.0
    small: float = 7.5
    moved: float = 60.0
    entry: float = 230.0
    call: float = 3e6
    part_product: float = 1.3
    part_places: float = 100.0
    part_entry: float = 360.0
    part_call: float = 1.6e7

    def dense_work(self, points: int, columns: int) -> float:
        """The work of a dense Jacobian `[N, P]` and its product."""
        return points * columns * (columns + self.entry)

    def part_work(self, points: int, columns: int) -> float:
        """The work of one part of the points, that see so many parameters: product, places, entries, calls."""
        product = self.part_product * (points + self.part_places) * columns**2
        return product + self.part_entry * points * columns + self.part_call
