"""What can be found of the plugin at work, and of the examination itself."""

from __future__ import annotations

from .kind import Kind

KINDS = {
    # -- examination
    "privileges": Kind(
        "examination", "note", "not all could be looked at, because this is not root",
        "sudo macvlan-egress doctor",
    ),
    "check-failed": Kind(
        "examination", "warning", "a check could not be made",
        "look at the reason; if it is none of this node's, report it",
    ),
    # -- state
    "state-dir": Kind(
        "state", "error", "the state directory cannot be written", "make {path} a directory that root can write to",
    ),
    "run-dir": Kind(
        "state", "error", "the run-time directory cannot be written", "make {path} a directory that root can write to",
    ),
    "run-dir-volatile": Kind(
        "state", "warning", "the run-time directory outlives a reboot, though it speaks of this boot only",
        "mount a tmpfs at /run, or set \"runDir\" to a directory on one",
    ),
    "disk-space": Kind(
        "state", "error", "the file system is full or nearly full", "make room: df -h {path}; df -i {path}",
    ),
    "log-file": Kind(
        "state", "warning", "the log file cannot be written", "make {path} a regular file in an existing directory",
    ),
    "log-size": Kind(
        "state", "warning", "the log file is very large",
        "have logrotate rotate {path} (copytruncate is not needed: each line opens it anew)",
    ),
    "records-dead": Kind(
        "state", "note", "there are records of pods that are gone",
        "nothing: their addresses are free; the runtime's GC removes them, or: rm {paths}",
    ),
    "records-interrupted": Kind(
        "state", "warning", "an ADD was killed and nobody has cleaned up after it",
        "delete the pod: the runtime's DEL clears up",
    ),
    "records-unreadable": Kind(
        "state", "warning", "a state file cannot be understood",
        "delete the pod; the next DEL or GC moves the file aside: {paths}",
    ),
    "records-aside": Kind(
        "state", "note", "state files that could not be understood have been moved aside",
        "look at them, then: rm {paths}",
    ),
    "attachments-drifted": Kind(
        "state", "warning", "an attachment is not as ADD left it",
        "macvlan-egress status; delete the pod so that it is made anew",
    ),
    "claims-orphaned": Kind(
        "state", "note", "addresses are held by attachments that have no record",
        "nothing: whoever needs one gets it; or: rm {paths}",
    ),
    "temporary-files": Kind(
        "state", "note", "killed writes have left unfinished files", "rm {paths}",
    ),
    "macvlans-on-node": Kind(
        "state", "note", "there are macvlans in the node's own namespace (a warning if one looks like a pod's)",
        "if nobody uses it: ip link delete {link}",
    ),
    "policy-leftover": Kind(
        "state", "warning", "there are rules of egress policies on the node though no policy is in force",
        "macvlan-egress policy sync; if no policy is configured any more: nft delete table netdev macvlan_egress",
    ),
    "policy-differs": Kind(
        "state", "error", "the rules of egress policies on the node are not as they should be",
        "macvlan-egress policy sync",
    ),
    "policy-state": Kind(
        "state", "warning", "nobody knows which egress policies are in force: the state file cannot be read",
        "macvlan-egress policy sync",
    ),
}  # fmt: skip
