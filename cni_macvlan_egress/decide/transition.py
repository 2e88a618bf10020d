"""From one redirect ruleset to another in one transaction, without touching what stays the same. Pure.

A table that is deleted and made anew would drop packets until its rules are active, and forget its counters. So chains
that differ are filled anew, which the kernel switches at once, and sets lose and gain single elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .drift import blocks
from .ruleset import TABLE

# Packets and bytes, by chain and comment of a rule.
Counts = Mapping[tuple[str, str], tuple[int, int]]
_COMMENT = re.compile(r'comment "([^"]*)"$')
_COUNTER = re.compile(r"(^| )counter ")
_ELEMENTS = re.compile(r"elements = \{ (.*) \}")


def transition(old: str, new: str, counts: Counts) -> str:
    """The nft commands that make one rendered table out of the other; empty if it has to be made anew as a whole.

    Args:
        counts: what the rules have counted; those that are written anew go on from there.
    """
    before, now = _objects(old), _objects(new)
    if any(_head(before[one]) != _head(now[one]) for one in before.keys() & now.keys()):
        return ""  # a set that takes ranges now, or does not any more, is another one
    made = list(_declarations(before, now))
    filled, emptied = [], []
    left = dict(counts)
    for (kind, name), lines in now.items():
        if before.get((kind, name)) == lines:
            continue
        if kind == "chain":
            emptied += [f"flush chain {TABLE} {name}"] if (kind, name) in before else []
            filled += [
                f"add rule {TABLE} {name} {_counting(line, name, left)}"
                for line in lines
                if not _is_head(line)
            ]
        else:
            lost, gained = _elements(before.get((kind, name), [])), _elements(lines)
            emptied += _change("delete", name, [one for one in lost if one not in gained])
            filled += _change("add", name, [one for one in gained if one not in lost])
    gone = [one for one in before if one not in now]
    # Whatever leads to a chain is gone before the chain itself.
    emptied += [f"flush {kind} {TABLE} {name}" for kind, name in gone]
    filled += [
        f"delete {kind} {TABLE} {name}" for kind, name in sorted(gone, key=lambda one: one[0] == "chain")
    ]
    return "\n".join((*made, *emptied, *filled, ""))


def _objects(ruleset: str) -> dict[tuple[str, str], list[str]]:
    found = {}
    for title, lines in blocks(ruleset).items():
        kind, _, name = title.partition(" ")
        if kind in ("chain", "set", "map"):
            found[kind, name] = lines
    return found


def _declarations(
    before: Mapping[tuple[str, str], list[str]], now: Mapping[tuple[str, str], list[str]]
) -> Iterator[str]:
    """What is new, chains first: elements and rules speak of them."""
    new = [(kind, name) for kind, name in now if (kind, name) not in before]
    for kind, name in sorted(new, key=lambda one: one[0] != "chain"):
        head = [line if line.endswith(";") else f"{line};" for line in _head(now[kind, name])]
        yield f"add {kind} {TABLE} {name}" + (f" {{ {' '.join(head)} }}" if head else "")


def _head(lines: list[str]) -> list[str]:
    return [line for line in lines if _is_head(line)]


def _is_head(line: str) -> bool:
    """Whether a line declares: what a chain is hooked to, what a set holds."""
    return line.startswith(("type ", "flags "))


def _elements(lines: list[str]) -> list[str]:
    found = [match[1].split(", ") for line in lines if (match := _ELEMENTS.fullmatch(line))]
    return [element for group in found for element in group]


def _change(verb: str, name: str, elements: list[str]) -> list[str]:
    if not elements:
        return []
    # A key is enough to delete by; a verdict would be taken for one of its own.
    keys = [one.partition(" : ")[0] for one in elements] if verb == "delete" else elements
    return [f"{verb} element {TABLE} {name} {{ {', '.join(keys)} }}"]


def _counting(line: str, chain: str, left: dict[tuple[str, str], tuple[int, int]]) -> str:
    """A rule that goes on counting; where several of a chain share a comment, the first one takes all."""
    comment = _COMMENT.search(line)
    if comment is None or (seen := left.pop((chain, comment[1]), None)) is None:
        return line
    return _COUNTER.sub(rf"\1counter packets {seen[0]} bytes {seen[1]} ", line, count=1)
