"""Changes to bytes that know nothing of what the bytes mean."""

from __future__ import annotations

from random import Random

_EDGES = (0, 1, 0x7F, 0x80, 0xC0, 0xFF, 0x7FFF, 0x8000, 0xC00C, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def changed(data: bytes, random: Random) -> bytes:
    """One small change."""
    found = bytearray(data)
    if not found:
        return random.randbytes(random.randint(1, 8))
    place = random.randrange(len(found))
    match random.randrange(7):
        case 0:
            found[place] ^= 1 << random.randrange(8)
        case 1:
            found[place] = random.randrange(256)
        case 2:
            del found[place : place + random.randint(1, 16)]
        case 3:
            found[place:place] = random.randbytes(random.randint(1, 8))
        case 4:
            length = random.randint(1, min(64, len(found)))
            found[place:place] = found[:length] if random.random() < 0.2 else found[place : place + length]
        case 5:
            width = random.choice((1, 2, 4))
            edge = random.choice(_EDGES) & ((1 << 8 * width) - 1)
            found[place : place + width] = edge.to_bytes(width, random.choice(("big", "little")))
        case _:
            del found[place:]
    return bytes(found)
