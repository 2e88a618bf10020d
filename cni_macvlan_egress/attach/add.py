"""ADD: all or nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..decide import planning, redirect
from ..decide.addressing import Addressing
from ..decide.facts import MAIN_TABLE
from ..decide.plan import Plan
from ..decide.request import Pod, Request, merge
from ..kernel.netns import Sandbox
from ..model.annotations import PodAnnotations
from ..model.configuration import Configuration
from ..passthrough import previous_result
from ..protocol import results, wire
from ..protocol.call import Call
from ..protocol.errors import ALREADY_ATTACHED, CniError
from ..protocol.versions import LATEST
from ..sources.gather import annotations_of
from . import apply, locks, pods
from .attachments import Attachments, sandbox_of
from .ipam import delegated_configuration
from .preparation import Preparation, prepare
from .records import Record, UnreadableRecord, attachment_key, boot_id

if TYPE_CHECKING:
    from .policy_state import PodNote


def add(call: Call, configuration: Configuration, attachments: Attachments) -> str:
    """Attach a pod if it asks for it, and return the result's text.

    Raises:
        CniError: with the kernel and the state as they were before.
    """
    annotations = PodAnnotations.of(annotations_of(call, configuration))
    if call.chained and not annotations.attach:
        result = previous_result(call)  # first, because it may be malformed
        if configuration.policy is not None:
            _hold_to_policy(call, attachments)
        return result
    previous = _previous(call)
    request = merge(
        configuration,
        call.runtime_config,
        annotations,
        ifname=call.environment.ifname,
        chained=call.chained,
        args=call.environment.args,
    )
    pod = Pod(*(call.environment.args.get(f"K8S_POD_{part}", "") for part in ("NAMESPACE", "NAME", "UID")))
    with Sandbox(call.environment.netns, allow_own=call.environment.netns_override) as sandbox:
        record = _new_record(call, sandbox, request, pod)
        with locks.attachment(configuration.run_dir, record.key):
            _clear_leftovers(record, attachments)
            prepared = prepare(configuration, request, pod)
            outcome = _Attempt(call, previous, prepared, attachments, sandbox, record).run()
    attachments.log.info(
        "attached",
        containerID=record.container_id,
        ifname=record.ifname,
        pod=record.pod,
        master=prepared.nic.name,
        interface=request.interface,
        addresses=record.addresses,
    )
    if not prepared.nic.carrier:
        attachments.log.warning(
            f"NIC {prepared.nic.name} has no carrier: nothing could be asked or announced on the LAN",
            containerID=record.container_id,
        )
    return outcome


class _Attempt:
    """The part of an ADD that changes something, and that is taken back if it fails."""

    def __init__(
        self,
        call: Call,
        previous: dict[str, Any] | None,
        prepared: Preparation,
        attachments: Attachments,
        sandbox: Sandbox,
        record: Record,
    ) -> None:
        self._call = call
        self._previous = previous
        self._request = prepared.request
        self._prepared = prepared
        self._attachments = attachments
        self._sandbox = sandbox
        self._record = record
        self._ipam_result: dict[str, Any] = {}

    def run(self) -> str:
        addressing = Addressing(self._request.sources, self._request.gateways)
        plan = None if self._request.use_ipam else self._plan(addressing)
        self._record.plan = plan
        self._record.addresses = tuple(str(source.ip) for source in addressing.sources)
        if plan is None:
            self._attachments.delegate(self._record.ipam or {}).require()
        try:
            self._attachments.records.save(self._record)
            if plan is None:
                addressing = self._lease()
                plan = self._plan(addressing)
                self._record.plan = plan
                self._record.addresses = tuple(str(source.ip) for source in addressing.sources)
                self._attachments.records.save(self._record)
            self._attachments.claims.take(
                self._record.addresses, self._record.container_id, self._record.ifname
            )
            if self._attachments.configuration.policy is not None:
                self._attachments.policing.admit(
                    _note(self._call, self._sandbox), self._sandbox, plan, self._prepared.nic
                )
            apply.apply(plan, self._prepared.nic.index, self._sandbox)
            self._record.phase = "ready"
            self._attachments.records.save(self._record)
        except BaseException as error:
            self._take_back(error)
            raise
        return self._result(plan, addressing)

    def _plan(self, addressing: Addressing) -> Plan:
        pod = apply.facts_of(self._sandbox, lambda facts: redirect.settings(self._request, facts))
        found = self._prepared
        return planning.plan(
            self._request, addressing, found.forwards, found.nic, found.node, pod, os.urandom
        )

    def _lease(self) -> Addressing:
        addressing, self._ipam_result = self._attachments.delegate(self._record.ipam or {}).add(
            self._call.version
        )
        if self._request.gateways:
            addressing = Addressing(addressing.sources, self._request.gateways, addressing.routes)
        return addressing

    def _take_back(self, error: BaseException) -> None:
        self._record.phase = "adding"
        try:
            self._attachments.release(self._record)
        except CniError as second:
            if isinstance(error, CniError):
                error.details = f"{error.details}; and not all could be undone: {second}".lstrip("; ")

    def _result(self, plan: Plan, addressing: Addressing) -> str:
        interface: dict[str, Any] = {
            "name": plan.link.name,
            "mac": plan.link.mac,
            "mtu": plan.link.mtu,
            "sandbox": self._call.environment.netns,
        }
        ips = []
        for source in addressing.sources:
            ip = {"address": str(source)}
            if gateway := addressing.gateway(source.version):
                ip["gateway"] = str(gateway)
            ips.append(ip)
        return _encode(results.append(self._base(plan), interface, ips), self._call.version)

    def _base(self, plan: Plan) -> dict[str, Any]:
        if self._previous is not None:
            return self._previous
        routes = []
        for route in plan.routes:
            if route.table == MAIN_TABLE:
                routes.append({"dst": route.destination, **({"gw": route.gateway} if route.gateway else {})})
        base: dict[str, Any] = {"cniVersion": LATEST}
        if routes:
            base["routes"] = routes
        dns = self._ipam_result.get("dns") or self._call.configuration.get("dns")
        if dns:
            base["dns"] = dns
        return base


def _hold_to_policy(call: Call, attachments: Attachments) -> None:
    """A pod that wants nothing of us is held to its namespace's policy all the same."""
    env = call.environment
    with (
        Sandbox(env.netns, allow_own=env.netns_override) as sandbox,
        locks.attachment(attachments.configuration.run_dir, attachment_key(env.container_id, env.ifname)),
    ):
        note = _note(call, sandbox)
        try:
            attachments.policing.admit(note, sandbox, None, None)
        except BaseException:
            pods.forget(attachments.configuration.run_dir, env.container_id, env.ifname)
            raise


def _note(call: Call, sandbox: Sandbox) -> PodNote:
    """The pod as policies know it; only a main CNI before us has made an interface that is to be held."""
    from .policy_state import PodNote

    env = call.environment
    if call.chained:
        pods.note(call, (sandbox.identity.device, sandbox.identity.inode))
    mac, addresses = pods.main_interface(call) if call.chained else ("", [])
    return PodNote(
        network=call.network,
        container_id=env.container_id,
        ifname=env.ifname,
        namespace=env.args.get("K8S_POD_NAMESPACE", ""),
        name=env.args.get("K8S_POD_NAME", ""),
        netns=env.netns,
        netns_device=sandbox.identity.device,
        netns_inode=sandbox.identity.inode,
        mac=mac,
        addresses=tuple(addresses),
    )


def _previous(call: Call) -> dict[str, Any] | None:
    """prevResult in the common form; read before anything is changed, because it may be malformed."""
    if call.previous is None:
        return None
    return results.to_common(call.previous, results.version_of(call.previous, call.version))


def _new_record(call: Call, sandbox: Sandbox, request: Request, pod: Pod) -> Record:
    ipam = delegated_configuration(call.configuration, chained=call.chained) if request.use_ipam else None
    return Record(
        network=call.network,
        container_id=call.environment.container_id,
        ifname=call.environment.ifname,
        netns=call.environment.netns,
        netns_device=sandbox.identity.device,
        netns_inode=sandbox.identity.inode,
        boot_id=boot_id(),
        pod=str(pod),
        ipam=ipam,
    )


def _clear_leftovers(record: Record, attachments: Attachments) -> None:
    """Remove what a killed ADD of the same attachment left; refuse if a finished one is there."""
    try:
        previous = attachments.records.load(record.container_id, record.ifname)
    except UnreadableRecord as error:
        attachments.log.warning(str(error), containerID=record.container_id)
        attachments.claims.release_all_of(record.container_id, record.ifname)
        return
    if previous is None:
        return
    plan = previous.plan if previous.phase == "ready" else None
    if plan is not None and (sandbox := sandbox_of(previous)) is not None:
        with sandbox:
            link = apply.present(plan, sandbox, finished=True)
        if link is not None:
            held = ", ".join(previous.addresses) or "no address"
            raise CniError(
                ALREADY_ATTACHED,
                f"container {record.container_id} is attached already: {link.name} ({link.mac}, {held}); run DEL first",
            )
    attachments.release(previous)


def _encode(result: dict[str, Any], version: str) -> str:
    return wire.encode(results.from_common(result, version))
