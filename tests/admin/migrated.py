"""What the tests of `migrate` share: the manifests and what is to become of each."""

from __future__ import annotations

from pathlib import Path

MANIFESTS = Path(__file__).parent / "manifests"
MIGRATED = MANIFESTS / "migrated"

# What is expected (migrated/NAME.yaml on stdout, migrated/NAME.txt on stderr): what it comes from, and how.
CASES: dict[str, tuple[str, ...]] = {
    "redirect": ("redirect",),
    "redirect-deployment": ("redirect", "--deployment"),
    "init": ("init",),
    "init-deployment": ("init", "--deployment", "--image", "registry.example.com/pause:1"),
    "http-proxy": ("http-proxy",),
    "http-proxy-deployment": ("http-proxy", "--deployment"),
    "dns-proxy": ("dns-proxy",),
    "dns-proxy-deployment": ("dns-proxy", "--deployment"),
    "dns-proxy-dropped": ("dns-proxy", "--deployment", "--drop-dns-proxy"),
    "config-map": ("config-map",),
    "config-map-deployment": ("config-map", "--deployment"),
    "deployment-config": ("deployment-config",),
    "deployment-config-deployment": ("deployment-config", "--deployment"),
    "egress-router": ("egress-router",),
    "egress-router-deployment": ("egress-router", "--deployment"),
}


def words(case: str) -> list[str]:
    """The command line of a case."""
    manifest, *options = CASES[case]
    return ["migrate", "-f", str(MANIFESTS / f"{manifest}.yaml"), *options]
