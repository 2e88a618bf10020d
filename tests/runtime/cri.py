"""A client of the Container Runtime Interface, version 1, as far as a pod's sandbox needs it.

The messages are described here instead of being compiled from kubernetes/cri-api's api.proto, where they are
explained; a field that is left out here travels as an unknown one and harms nobody.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

_REASON = "needs the Python packages grpcio and protobuf to talk to containerd"
grpc = pytest.importorskip("grpc", reason=_REASON)
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2", reason=_REASON)
descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool", reason=_REASON)
message_factory = pytest.importorskip("google.protobuf.message_factory", reason=_REASON)

PACKAGE = "runtime.v1"
TIMEOUT_SECONDS = 60

# Message: its fields as `name=number:type`, `*` before the type for a list; `map` is map<string, string>, and
# what is no scalar is a message of this table.
_MESSAGES = {
    "VersionRequest": "version=1:string",
    "VersionResponse": "version=1:string runtime_name=2:string runtime_version=3:string",
    "StatusRequest": "verbose=1:bool",
    "StatusResponse": "status=1:RuntimeStatus info=2:map",
    "RuntimeStatus": "conditions=1:*RuntimeCondition",
    "RuntimeCondition": "type=1:string status=2:bool reason=3:string message=4:string",
    "RunPodSandboxRequest": "config=1:PodSandboxConfig runtime_handler=2:string",
    "RunPodSandboxResponse": "pod_sandbox_id=1:string",
    "PodSandboxConfig": (
        "metadata=1:PodSandboxMetadata hostname=2:string log_directory=3:string annotations=7:map "
        "linux=8:LinuxPodSandboxConfig"
    ),
    "PodSandboxMetadata": "name=1:string uid=2:string namespace=3:string attempt=4:uint32",
    "LinuxPodSandboxConfig": "cgroup_parent=1:string",
    "StopPodSandboxRequest": "pod_sandbox_id=1:string",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id=1:string",
    "RemovePodSandboxResponse": "",
    "PodSandboxStatusRequest": "pod_sandbox_id=1:string verbose=2:bool",
    "PodSandboxStatusResponse": "status=1:PodSandboxStatus info=2:map",
    "PodSandboxStatus": "id=1:string metadata=2:PodSandboxMetadata network=5:PodSandboxNetworkStatus",
    "PodSandboxNetworkStatus": "ip=1:string additional_ips=2:*PodIP",
    "PodIP": "ip=1:string",
    "ListPodSandboxRequest": "",
    "ListPodSandboxResponse": "items=1:*PodSandbox",
    "PodSandbox": "id=1:string metadata=2:PodSandboxMetadata",
    "ImageStatusRequest": "image=1:ImageSpec",
    "ImageStatusResponse": "image=1:Image",
    "ImageSpec": "image=1:string",
    "Image": "id=1:string",
}
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL, "uint32": _Field.TYPE_UINT32}


class Error(Exception):
    """What the runtime answered instead of a result; an event of the pod would show this text."""


class Client:
    """One connection to a runtime's socket."""

    def __init__(self, socket_path: str) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket_path}")
        pool = descriptor_pool.DescriptorPool()
        pool.Add(_file())
        find = pool.FindMessageTypeByName
        self._classes = {
            name: message_factory.GetMessageClass(find(f"{PACKAGE}.{name}")) for name in _MESSAGES
        }

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, service: str = "RuntimeService", **fields: Any) -> Any:
        """Call a method; the fields of its request are given as plain data, messages as dicts.

        Raises:
            Error: the runtime refused or did not answer in time.
        """
        call = self._channel.unary_unary(
            f"/{PACKAGE}.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._classes[f"{method}Response"].FromString,
        )
        try:
            return call(self._classes[f"{method}Request"](**fields), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise Error(f"{method}: {error.details()}") from None

    def version(self) -> Any:
        return self.call("Version", version="v1")

    def conditions(self) -> dict[str, bool]:
        """RuntimeReady and NetworkReady."""
        return {condition.type: condition.status for condition in self.call("Status").status.conditions}

    def network_configurations(self) -> list[str]:
        """The conflists that containerd has loaded, as it has read them."""
        info = json.loads(self.call("Status", verbose=True).info["cniconfig"])
        return [network["Config"]["Source"] for network in info["Networks"]]

    def has_image(self, name: str) -> bool:
        return self.call("ImageStatus", "ImageService", image={"image": name}).HasField("image")

    def run_pod(self, config: dict[str, Any]) -> str:
        """Make a pod's sandbox and return its ID."""
        return str(self.call("RunPodSandbox", config=config).pod_sandbox_id)

    def pod_status(self, pod_id: str) -> Any:
        """The status and, in `info`, what the runtime knows beyond it."""
        return self.call("PodSandboxStatus", pod_sandbox_id=pod_id, verbose=True)

    def pod_ids(self) -> list[str]:
        return [item.id for item in self.call("ListPodSandbox").items]

    def stop_pod(self, pod_id: str) -> None:
        self.call("StopPodSandbox", pod_sandbox_id=pod_id)

    def remove_pod(self, pod_id: str) -> None:
        self.call("RemovePodSandbox", pod_sandbox_id=pod_id)


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The table as protoc would have compiled it."""
    file = descriptor_pb2.FileDescriptorProto(name="api.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            _add_field(message, field)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    name, _, rest = text.partition("=")
    number, _, kind = rest.partition(":")
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind == "map":
        # On the wire a map is a list of pairs, a nested message marked as such.
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key=1:string")
        _add_field(entry, "value=2:string")
        kind = f"*{message.name}.{entry.name}"
    if kind.startswith("*"):
        field.label = _Field.LABEL_REPEATED
        kind = kind[1:]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
