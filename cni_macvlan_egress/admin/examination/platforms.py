"""Which cloud or hypervisor a NIC belongs to, and what is to be done there; how many filters NICs have."""

from __future__ import annotations

from typing import NamedTuple


class Platform(NamedTuple):
    """Where virtual NICs live.

    Attributes:
        cloud: frames with another MAC address than the NIC's own never pass.
    """

    name: str
    cloud: bool
    cure: str


_NO_LAYER_2 = "{}: macvlan does not work there; use nodes with a LAN of their own, or {} for fixed addresses"
AWS = Platform("AWS", True, _NO_LAYER_2.format("AWS", "a NAT gateway"))
AZURE = Platform("Azure", True, _NO_LAYER_2.format("Azure", "a NAT gateway"))
GOOGLE = Platform("Google Cloud", True, _NO_LAYER_2.format("Google Cloud", "Cloud NAT"))
HYPER_V = Platform(
    "Hyper-V", False, "Set-VMNetworkAdapter -VMName VM -MacAddressSpoofing On (on the Hyper-V host)"
)
OPENSTACK = Platform(
    "OpenStack",
    False,
    'openstack port set --allowed-address ip_address=ADDRESS,mac_address=MAC PORT (with "mac": "address" the MAC '
    "address is known beforehand), or --disable-port-security",
)
VMWARE = Platform(
    "VMware",
    False,
    "in the port group's security policy accept MAC address changes, forged transmits, and promiscuous mode (or turn "
    "MAC learning on)",
)
XEN = Platform(
    "Xen", False, "allow further MAC addresses at the virtual interface (XenServer: locking-mode=unlocked)"
)
KVM = Platform(
    "KVM",
    False,
    "on the host: with macvtap, trustGuestRxFilters='yes' in the interface's XML; with libvirt, no filterref that "
    "forbids MAC spoofing (clean-traffic, no-mac-spoofing)",
)

# What SMBIOS says of the machine, in lower case, and what that means. The first one that fits counts.
_MACHINES = (
    ("amazon ec2", AWS),
    ("google", GOOGLE),
    ("openstack", OPENSTACK),
    ("vmware", VMWARE),
    ("xen", XEN),
)
_DRIVERS = {
    "ena": AWS,
    "gve": GOOGLE,
    "hv_netvsc": HYPER_V,
    "mana": AZURE,
    "vmxnet3": VMWARE,
    "xen_netfront": XEN,
    "vif": XEN,  # what xen_netfront calls its driver
    "virtio_net": KVM,
}
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"  # chassis_asset_tag of every machine there
# Filters for further MAC addresses, from the drivers and devices themselves. A hint: firmware and SR-IOV lower it.
_FILTERS = {
    "virtio_net": 64,
    "e1000": 14,
    "e1000e": 14,
    "igb": 15,
    "ixgbe": 127,
    "mlx5_core": 127,
    "bnxt_en": 3,
}
_USUAL_FILTERS = 64


def of(driver: str, machine: str, asset_tag: str = "") -> Platform | None:
    """The platform of a NIC with a driver; None for one of metal."""
    platform = _DRIVERS.get(driver)
    if platform is HYPER_V and asset_tag == _AZURE_TAG:
        return AZURE
    if platform is None:
        return None
    return next((found for word, found in _MACHINES if word in machine.lower()), platform)


def filters(driver: str) -> int:
    """About how many further MAC addresses a NIC filters by itself."""
    return _FILTERS.get(driver, _USUAL_FILTERS)
