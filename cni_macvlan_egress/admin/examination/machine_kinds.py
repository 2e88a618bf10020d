"""What can be found of the machine: its kernel, its NICs, its clock."""

from __future__ import annotations

from .kind import Kind

KINDS = {
    # -- kernel
    "network-namespaces": Kind(
        "kernel", "error", "no network namespace can be made, so that nothing of the kernel can be tried",
        "run it on the node itself, or in a privileged container (CAP_SYS_ADMIN, CAP_NET_ADMIN); if it is on the node: "
        "sysctl user.max_net_namespaces",
    ),
    "macvlan-untried": Kind(
        "kernel", "warning", "no bridge and no TAP could be made to try a macvlan on",
        "modprobe bridge; if this is a container, give it CAP_NET_ADMIN",
    ),
    "macvlan": Kind(
        "kernel", "error", "the kernel makes no macvlan",
        "modprobe macvlan; if that fails, boot a kernel built with CONFIG_MACVLAN",
    ),
    "macvlan-modes": Kind(
        "kernel", "warning", "the kernel does not know every mode of macvlans",
        "use mode bridge, or boot a kernel of 3.5 or newer",
    ),
    "sysctls": Kind(
        "kernel", "error", "settings of a pod's interface cannot be written",
        "mount /proc/sys writable where the plugin runs (a privileged container does)",
    ),
    "addresses-and-routes": Kind(
        "kernel", "error", "addresses, routes or rules as an egress pod has them are refused",
        "boot a kernel built with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES",
    ),
    "ipv6": Kind(
        "kernel", "note", "the kernel speaks no IPv6",
        "nothing, if pods need no IPv6; else boot without ipv6.disable=1",
    ),
    "packet-sockets": Kind(
        "kernel", "error", "it cannot be found out whether an address is in use on the LAN",
        "give the plugin CAP_NET_RAW and boot a kernel with CONFIG_PACKET, or set \"conflictDetection\": \"off\"",
    ),
    "libnftables": Kind(
        "kernel", "error", "libnftables is not installed, and destinations and policies need it",
        "apt-get install libnftables1 (Fedora: dnf install nftables-libs)",
    ),
    "nftables": Kind(
        "kernel", "error", "the kernel takes no nftables table of family inet",
        "modprobe nf_tables; if that fails, boot a kernel built with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET",
    ),
    "redirect-rules": Kind(
        "kernel", "error", "the kernel refuses the rules of a redirect (NAT, connection tracking, fib, maps)",
        "modprobe -a nf_conntrack nft_ct nft_chain_nat nft_nat nft_fib_inet nft_reject_inet nft_hash",
    ),
    "netdev-ingress": Kind(
        "kernel", "warning", "the kernel has no nftables hook where packets enter an interface; policies need it",
        "boot a kernel built with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS",
    ),
    "netdev-egress": Kind(
        "kernel", "warning", "the kernel has no nftables hook where packets leave an interface; policies need it",
        "boot a kernel of 5.16 or newer, built with CONFIG_NETFILTER_EGRESS",
    ),
    "policy-rules": Kind(
        "kernel", "warning", "the kernel refuses the rules of an egress policy",
        "modprobe -a nft_fib_netdev nft_meta nft_counter; leave 'policy' out of the configuration until it takes them",
    ),
    # -- nic
    "nic-choice": Kind(
        "nic", "error", "there is no NIC to attach to",
        "name the NIC as \"master\" in the plugin's entry, or give the node a default route",
    ),
    "nic-missing": Kind(
        "nic", "error", "the configuration names a NIC that this node does not have",
        "correct the name in {path}; the node has: {nics}",
    ),
    "nic-down": Kind("nic", "error", "the NIC is down", "ip link set {nic} up"),
    "nic-port": Kind(
        "nic", "error", "the NIC is a port of a bridge, bond, team or Open vSwitch and carries no macvlan",
        "name {controller} as \"master\" instead (of Open vSwitch: the bridge's internal port)",
    ),
    "nic-stacked": Kind(
        "nic", "error", "the NIC is itself a macvlan, macvtap or ipvlan",
        "name the NIC below {nic} as \"master\"",
    ),
    "nic-not-ethernet": Kind(
        "nic", "error", "the NIC is no Ethernet interface",
        "name an Ethernet NIC as \"master\"; this one carries no macvlan",
    ),
    "nic-carrier": Kind(
        "nic", "warning", "the NIC has no carrier",
        "look at cable, switch port or virtual switch: ip -s link show dev {nic}",
    ),
    "nic-wireless": Kind(
        "nic", "warning", "the NIC is wireless; an access point takes frames from its own MAC address only",
        "use a wired NIC; only an access point in 4-address mode (WDS) would do",
    ),
    "nic-cloud": Kind(
        "nic", "warning", "the NIC belongs to a cloud's network, which delivers to its own MAC address only",
        "use nodes whose network is a LAN of your own, or the cloud's NAT gateway for fixed addresses",
    ),
    "nic-hypervisor": Kind(
        "nic", "note", "the NIC is virtual; its switch may drop MAC addresses that it does not know",
        "allow further MAC addresses at its port (docs/troubleshooting.md, limits of macvlan)",
    ),
    "nic-promiscuous": Kind(
        "nic", "note", "the NIC is in promiscuous mode; every frame on the wire costs CPU",
        "nothing, if it is for macvlans that the NIC has no filters for; else find out who wants it (a capture, a "
        "bridge): ip link set {nic} promisc off",
    ),
    "nic-filters": Kind(
        "nic", "warning", "the NIC carries about as many macvlans as it has filters for MAC addresses",
        "spread pods over more nodes or NICs; beyond its filters a NIC turns promiscuous, which works and costs CPU",
    ),
    "nic-mtu": Kind(
        "nic", "error", "the configuration asks for a larger MTU than the NIC has",
        "lower \"mtu\" in {path} to {mtu}, or raise the NIC's on every host of the LAN",
    ),
    "nic-mtu-ipv6": Kind(
        "nic", "warning", "the NIC's MTU is less than the 1280 bytes that IPv6 needs (RFC 8200)",
        "ip link set {nic} mtu 1280, if the LAN carries it; else use IPv4 only",
    ),
    # -- clock
    "clock-synchronised": Kind(
        "clock", "warning", "the node's clock is not synchronised; certificates and the times in logs need it",
        "timedatectl set-ntp true (or install chrony)",
    ),
    "clock-behind": Kind(
        "clock", "error", "the node's clock is behind: it is earlier than this program was made",
        "timedatectl set-ntp true, or set it by hand: date -s",
    ),
}  # fmt: skip
