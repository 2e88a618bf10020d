"""Every value of a manifest replaced by one that does not belong there: said, or carried along, but never a crash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cni_macvlan_egress.admin.migrate import PAUSE, migrate
from cni_macvlan_egress.admin.migration import manifest
from cni_macvlan_egress.admin.migration.router_pod import Options

from .migrated import CASES, MANIFESTS

STRANGE: tuple[Any, ...] = (None, 5, "x", [], {}, [5], {"x": 5}, [{}])


def variants(value: Any) -> Iterator[Any]:
    """The same with one value, at any depth, replaced or gone."""
    yield from STRANGE
    if isinstance(value, dict):
        for key, below in value.items():
            yield {name: one for name, one in value.items() if name != key}
            for other in variants(below):
                yield {**value, key: other}
    if isinstance(value, list):
        for number, below in enumerate(value):
            for other in variants(below):
                yield [*value[:number], other, *value[number + 1 :]]


@pytest.mark.parametrize("deployment", [True, False], ids=["deployment", "in place"])
@pytest.mark.parametrize("name", sorted({source for source, *_ in CASES.values()}))
def test_malformed_manifest_is_reported(name: str, deployment: bool) -> None:
    documents = manifest.read(str(MANIFESTS / f"{name}.yaml"))
    options = Options(PAUSE, deployment=deployment, drop_dns_proxy=deployment)
    tried = failed = 0
    for number, document in enumerate(documents):
        for other in variants(document):
            if not isinstance(other, dict) or not isinstance(other.get("kind"), str):
                continue  # refused by whoever reads the file
            found, reports = migrate([*documents[:number], other, *documents[number + 1 :]], options)
            manifest.write(found)
            tried += 1
            failed += any(report.failed for report in reports)
    assert tried > 100
    assert failed > 10
