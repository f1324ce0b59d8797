# SPDX-License-Identifier: Apache-2.0
"""The smallest program that ttnn's loader takes. It is never run."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# The ELF specification's names for what is written below.
PT_LOAD, ET_EXEC, EM_RISCV, R_RISCV_RELAX = 1, 2, 243, 51
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 0, 1, 2, 3, 4
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK = 1, 2, 4, 0x40
READ_EXECUTE, READ_WRITE = 5, 6
GLOBAL_FUNCTION = 0x12

HEADER_BYTES, SEGMENT_BYTES, SECTION_BYTES = 52, 32, 40
SEGMENTS = 2

TEXT = struct.pack("<II", 0x00000513, 0x00008067)  # li a0, 0; ret
DATA = bytes(4)
TEXT_ADDRESS = 0
DATA_ADDRESS = 0xFFB00000  # a core's local memory


@dataclass(frozen=True)
class _Section:
    name: str
    content: bytes
    kind: int
    flags: int = 0
    address: int = 0
    link: int = 0
    info: int = 0
    alignment: int = 4
    entry_bytes: int = 0


def empty_program() -> bytes:
    """A 32-bit little-endian RISC-V ELF that returns at once.

    ttnn's loader (tt-metal, tt_elffile.cpp) wants two loaded segments, text and then data whose physical address
    follows the text, and relocations of the text against a table of symbols.
    """
    sections = _sections()
    places = _places(sections)
    body = b"".join(_padded(section.content) for section in sections)
    data_load = TEXT_ADDRESS + len(TEXT)
    segments = _segment(places[1], TEXT_ADDRESS, TEXT_ADDRESS, len(TEXT), READ_EXECUTE)
    segments += _segment(places[2], DATA_ADDRESS, data_load, len(DATA), READ_WRITE)
    return _header(len(body), len(sections)) + segments + body + _section_table(sections, places)


def _sections() -> list[_Section]:
    symbols = bytes(16) + struct.pack("<IIIBBH", 1, TEXT_ADDRESS, len(TEXT), GLOBAL_FUNCTION, 0, 1)
    relocations = struct.pack("<IIi", TEXT_ADDRESS, R_RISCV_RELAX, 0)  # of a kind that changes nothing
    named = [
        _Section("", b"", SHT_NULL, alignment=0),
        _Section(".text", TEXT, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, TEXT_ADDRESS),
        _Section(".data", DATA, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, DATA_ADDRESS),
        _Section(".rela.text", relocations, SHT_RELA, SHF_INFO_LINK, link=4, info=1, entry_bytes=12),
        _Section(".symtab", symbols, SHT_SYMTAB, link=5, info=1, entry_bytes=16),
        _Section(".strtab", b"\0_start\0", SHT_STRTAB, alignment=1),
    ]
    names = b"".join(section.name.encode() + b"\0" for section in named) + b".shstrtab\0"
    return [*named, _Section(".shstrtab", names, SHT_STRTAB, alignment=1)]


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def _places(sections: list[_Section]) -> list[int]:
    """Where in the file each section lies."""
    places, at = [], HEADER_BYTES + SEGMENTS * SEGMENT_BYTES
    for section in sections:
        places.append(at)
        at += len(_padded(section.content))
    return places


def _segment(place: int, address: int, physical: int, size: int, flags: int) -> bytes:
    return struct.pack("<8I", PT_LOAD, place, address, physical, size, size, flags, 4)


def _section_table(sections: list[_Section], places: list[int]) -> bytes:
    table, name_at = b"", 0
    for s, place in zip(sections, places, strict=True):
        size = len(s.content)
        table += struct.pack(
            "<10I", name_at, s.kind, s.flags, s.address, place, size, s.link, s.info, s.alignment, s.entry_bytes
        )
        name_at += len(s.name) + 1
    return table


def _header(body_bytes: int, sections: int) -> bytes:
    table_at = HEADER_BYTES + SEGMENTS * SEGMENT_BYTES + body_bytes
    kind = struct.pack("<HHI", ET_EXEC, EM_RISCV, 1)
    where = struct.pack("<IIII", TEXT_ADDRESS, HEADER_BYTES, table_at, 0)
    sizes = struct.pack("<6H", HEADER_BYTES, SEGMENT_BYTES, SEGMENTS, SECTION_BYTES, sections, sections - 1)
    return b"\x7fELF\x01\x01\x01" + bytes(9) + kind + where + sizes
