"""The first packets of an SCTP association (RFC 9260, sections 3.1 to 3.3.3), for kernels without SCTP."""

from __future__ import annotations

import struct

INIT, INIT_ACK = 1, 2
_HEADER = struct.Struct("!HHII")
_CHUNK = struct.Struct("!BBHIIHHI")
_STATE_COOKIE = struct.pack("!HH4s", 7, 8, b"oven")  # INIT ACK has to carry one
_WINDOW, _STREAMS = 65536, 1


def init(source_port: int, port: int, tag: int) -> bytes:
    """Ask for an association; the tag is what the other side's packets have to bear."""
    return _packet(source_port, port, 0, _CHUNK.pack(INIT, 0, _CHUNK.size, tag, _WINDOW, 1, 1, 1))


def init_ack(source_port: int, port: int, verification_tag: int, tag: int) -> bytes:
    """Grant it."""
    length = _CHUNK.size + len(_STATE_COOKIE)
    chunk = _CHUNK.pack(INIT_ACK, 0, length, tag, _WINDOW, _STREAMS, _STREAMS, 1)
    return _packet(source_port, port, verification_tag, chunk + _STATE_COOKIE)


def is_chunk(packet: bytes, kind: int, *, port: int, tag: int) -> bool:
    """Whether a packet to a port starts with an INIT or INIT ACK that names a tag."""
    if len(packet) < _HEADER.size + _CHUNK.size:
        return False
    found = _CHUNK.unpack_from(packet, _HEADER.size)
    return (found[0], found[3], _HEADER.unpack_from(packet)[1]) == (kind, tag, port)


def source_port(packet: bytes) -> int:
    """Where it comes from."""
    return int(_HEADER.unpack_from(packet)[0])


def is_intact(packet: bytes) -> bool:
    """Whether the checksum is right; a translator has to renew it."""
    return bytes(packet[8:12]) == _checksum(packet[:8] + bytes(4) + packet[12:])


def _packet(source_port: int, port: int, verification_tag: int, chunk: bytes) -> bytes:
    header = _HEADER.pack(source_port, port, verification_tag, 0)
    return header[:8] + _checksum(header + chunk) + chunk


def _checksum(data: bytes) -> bytes:
    """CRC32c, the lowest byte first (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)
