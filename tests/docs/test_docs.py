"""The documentation says what the code does: every key, annotation, error and command, and no other."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from cni_macvlan_egress.admin.command_line import COMMANDS
from cni_macvlan_egress.daemon.caretaker import CaretakerSettings
from cni_macvlan_egress.daemon.caretaker_process import CaretakerProcess
from cni_macvlan_egress.daemon.counters import Counters
from cni_macvlan_egress.daemon.metrics import Metrics
from cni_macvlan_egress.model import destinations, keys
from cni_macvlan_egress.model.annotations import PodAnnotations
from cni_macvlan_egress.model.configuration import Configuration

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def first_column(page: str, heading: str) -> list[str]:
    """The code words in the first column of the table that a heading line starts."""
    lines = (DOCS / page).read_text().split("\n")
    start = lines.index(heading)
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(re.findall(r"`([^`]+)`", line.split("|")[1])[0])
    return rows


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_every_configuration_key_has_its_row() -> None:
    rows = first_column("configuration.md", "| key | default | meaning |")
    assert set(rows) == keys.CONFIGURATION
    assert len(rows) == len(set(rows))


def test_documented_defaults_are_the_codes() -> None:
    defaults = Configuration.of({}).model_dump(by_alias=True)
    for line in (DOCS / "configuration.md").read_text().split("\n"):
        if row := re.match(r"\| `(\w+)` \| `([^`]+)` \|", line):
            name, value = row.groups()
            found = defaults[name]
            assert json.loads(value) == (list(found) if isinstance(found, tuple) else found), name


def test_every_annotation_has_its_row() -> None:
    rows = first_column("annotations.md", "| annotation | value |")
    assert rows == [keys.ASSIGN, *(keys.PREFIX + name for name in keys.ANNOTATIONS)]


def test_documented_destinations_are_understood() -> None:
    (example,) = blocks(DOCS / "annotations.md", "")
    assert len(destinations.parse(example)) == 7


def test_documented_allow_is_understood() -> None:
    (example,) = blocks(DOCS / "configuration.md", "json")
    assert len(Configuration.of(json.loads("{" + example + "}")).allow or ()) == 3


# Shown as soon as something about policies is known.
WITH_POLICIES = {"policies", "policy_interfaces", "policy_names", "policy_names_failing"}


def test_readme_examples_are_understood() -> None:
    import yaml

    (entry,) = blocks(ROOT / "README.md", "json")
    assert Configuration.of(json.loads(entry)).allow
    (pod,) = blocks(ROOT / "README.md", "yaml")
    assert PodAnnotations.of(yaml.safe_load(pod)["metadata"]["annotations"]).destinations


def test_errors_page_is_made_from_the_table() -> None:
    spec = importlib.util.spec_from_file_location("errors_page", DOCS / "errors_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "errors.md").read_text() == module.page(), "run docs/errors_page.py"


def test_every_command_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert not [name for name in COMMANDS if f"`{name}`" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_commands_exist(page: Path) -> None:
    for name in re.findall(r"`macvlan-egress ([a-z]+)", page.read_text()):
        assert name in COMMANDS, name


def test_every_metric_is_explained_and_no_other(tmp_path: Path) -> None:
    care = CaretakerProcess(CaretakerSettings(str(tmp_path), str(tmp_path)), lambda _work: 0)
    shown = Metrics(str(tmp_path), str(tmp_path), Counters(1, 1), caretaker=care).text()
    made = set(re.findall(r"^# HELP macvlan_egress_(\w+)", shown, re.MULTILINE))
    text = (DOCS / "daemon.md").read_text().partition("## Metrics and health")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    explained = {name for row in rows for name in re.findall(r"(?:macvlan_egress|…)_(\w+)", row)}
    assert made - explained == set()
    assert explained - made <= WITH_POLICIES


def test_comparison_is_backed_by_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "comparison.md").read_text()))
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    existing = {name for text in sources for name in re.findall(r"def (test_\w+)", text)}
    assert named
    assert named - existing == set()
