"""What an attack was, and what it cost the target."""

import msgspec

from attack.catalogue import Attack
from attack.size import Size
from attack.target import Target


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one attack did to its target. Memory is resident, in MB (10⁶ bytes)."""

    attack: str
    tried: int
    stall_ms: float
    stall_cpu_ms: float
    memory_before_mb: float
    memory_after_mb: float

    def line(self) -> str:
        """For a person."""
        return (
            f"{self.attack:<28} tried {self.tried:>7,}   longest stall {self.stall_ms:>7.1f} ms "
            f"({self.stall_cpu_ms:>6.1f} ms CPU)   "
            f"memory {self.memory_before_mb:>5.0f} -> {self.memory_after_mb:>5.0f} MB"
        )


async def conduct(name: str, attack: Attack, target: Target, size: Size) -> Cost:
    """Attack, then see that the target still does its work. Raises NotAlive, ServerFailed."""
    await target.prove_alive()
    before = target.memory_mb()
    target.forget_stalls()
    tried = await attack(target, size)
    stall = target.longest_stall()
    await target.prove_alive()
    return Cost(
        attack=name,
        tried=tried,
        stall_ms=stall.wall_seconds * 1000,
        stall_cpu_ms=stall.cpu_seconds * 1000,
        memory_before_mb=before,
        memory_after_mb=target.memory_mb(),
    )
