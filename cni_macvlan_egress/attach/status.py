"""STATUS: whether an ADD could work now."""

from __future__ import annotations

import os
import sys

from ..decide import master
from ..decide.request import merge
from ..kernel.netlink import Netlink
from ..kernel.nftables import Nftables
from ..model.annotations import PodAnnotations
from ..model.configuration import Configuration
from ..protocol.call import Call
from ..protocol.errors import NOT_AVAILABLE, CniError
from .attachments import Attachments
from .ipam import delegated_configuration


def status(call: Call, configuration: Configuration, attachments: Attachments) -> str:
    """Look at what an ADD needs.

    Raises:
        CniError: NOT_AVAILABLE with the reason.
    """
    try:
        for key, directory in (("stateDir", configuration.state_dir), ("runDir", configuration.run_dir)):
            _check_writable(key, directory)
        request = merge(
            configuration, call.runtime_config, PodAnnotations(), ifname="status", chained=call.chained
        )
        with Netlink() as netlink:
            master.choose(request, netlink.facts())
            with Nftables() as nftables:
                nftables.listing()
        if configuration.policy is not None:
            _check_policies(configuration, attachments)
        if configuration.ipam is not None:
            attachments.delegate(delegated_configuration(call.configuration, chained=call.chained)).status()
    except CniError as error:
        raise CniError(NOT_AVAILABLE, f"pods cannot be attached now: {error.msg}", error.details) from None
    return ""


def _check_policies(configuration: Configuration, attachments: Attachments) -> None:
    """Policies have to be readable. One that is broken closes its namespace, and is no reason to close the node."""
    from . import policies
    from .policy_state import PolicyState

    found = policies.of_directory(configuration, PolicyState(configuration.run_dir))
    for problem in (*found.problems, *policies.broken(found)):
        attachments.log.warning(f"policy: {problem}")
        sys.stderr.write(f"macvlan-egress: policy: {problem}\n")


def _check_writable(key: str, directory: str) -> None:
    existing = directory
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        raise CniError(NOT_AVAILABLE, f"{key} {directory} cannot be written ({existing} is the obstacle)")
