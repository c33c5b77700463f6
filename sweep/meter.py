"""What a command costs: the time for which its trials hold devices, at a price; and when that is enough."""

from dataclasses import dataclass

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Counts device-hours as money.

    Args:
        devices: What one trial holds: GPUs, or CPUs where it has none.
        price: Of a device-hour.
        limit: Of the cost; `None` is none.
    """

    devices: float
    price: float = 1.0
    limit: float | None = None

    def hours(self, held_seconds: float) -> float:
        """Return device-hours.

        Args:
            held_seconds: For how long trials were on workers, all of them together.
        """
        return self.devices * held_seconds / SECONDS_PER_HOUR

    def is_over(self, held_seconds: float) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.price * self.hours(held_seconds) >= self.limit

    def text(self, held_seconds: float) -> str:
        """Say what it has cost."""
        hours = self.hours(held_seconds)
        return f"trials held devices for {hours:.3g} device-hours: {self.price * hours:.3g} at {self.price:g}"
