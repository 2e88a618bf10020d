"""Every kind of finding is documented, provoked by a test, and made somewhere."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from lab.needed import REPOSITORY

from cni_macvlan_egress.admin.examination.catalogue import AREAS, KINDS

PAGE = REPOSITORY / "docs/doctor.md"
PACKAGE = REPOSITORY / "cni_macvlan_egress/admin/examination"
TESTS = Path(__file__).parent


def in_words(cure: str) -> str:
    """A cure with its placeholders as a page shows them."""
    parts = string.Formatter().parse(cure)
    return "".join(text + (f"{name.upper()}" if name else "") for text, name, _, _ in parts).strip()


def rows() -> list[str]:
    """The table of an area for each, as the page has to have them."""
    found = []
    for area, title in AREAS.items():
        found += [
            f"## {title}",
            "",
            "| finding | severity | what it means | what to do |",
            "| --- | --- | --- | --- |",
        ]
        for name, kind in KINDS.items():
            if kind.area == area:
                found.append(f"| `{name}` | {kind.severity} | {kind.summary} | {in_words(kind.cure)} |")
        found.append("")
    return found


def test_page_lists_what_the_code_knows_and_nothing_else() -> None:
    text = PAGE.read_text()
    expected = "\n".join(rows()).rstrip()
    assert expected in text, f"docs/doctor.md has to have this:\n{expected}"
    documented = re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)
    assert [one for one in documented if one in KINDS] == [
        name for area in AREAS for name, kind in KINDS.items() if kind.area == area
    ]


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_provoked_by_a_test(name: str) -> None:
    sources = [path.read_text() for path in TESTS.glob("test_*.py") if path.name != Path(__file__).name]
    assert any(f'"{name}"' in text for text in sources)


def test_every_kind_is_found_somewhere_and_no_other() -> None:
    sources = [path.read_text() for path in PACKAGE.glob("*.py") if not path.name.endswith("kinds.py")]
    made = {name for text in sources for name in re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)*)"', text)}
    hooks = {"netdev-ingress", "netdev-egress"}  # made by f"netdev-{hook}"
    assert set(KINDS) - made - hooks == set()
    called = {
        name for text in sources for name in re.findall(r'\b(?:good|bad|_tried)\(\s*"([a-z0-9-]+)"', text)
    }
    assert called - set(KINDS) == set()


def test_names_are_short_and_stable_in_form() -> None:
    for name, kind in KINDS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), name
        assert len(name) <= 24, name
        assert kind.summary[0].islower(), name
        assert not kind.summary.endswith("."), name
        assert kind.severity != "ok", name
        assert kind.cure, name
