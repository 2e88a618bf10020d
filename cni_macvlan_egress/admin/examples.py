"""What one types: examples for the help of each command, the manual page and the reference.

A line is a command line that works, or a pipeline with one in it; the tests parse them all.
"""

from __future__ import annotations

# command, without the executable's name: (what for, what to type)
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("see it work, in throwaway namespaces", "macvlan-egress demo"),
        ("what would happen to this pod here?", "macvlan-egress plan -f pod.yaml"),
        ("what is attached, and what passed?", "macvlan-egress status"),
    ),
    "completion": (
        ("in bash, for this session", "source <(macvlan-egress completion bash)"),
        (
            "in bash, for everybody",
            "macvlan-egress completion bash > /etc/bash_completion.d/macvlan-egress",
        ),
        ("in zsh", 'macvlan-egress completion zsh > "${fpath[1]}/_macvlan-egress"'),
        ("in fish, for this session", "macvlan-egress completion fish | source"),
    ),
    "daemon": (
        ("serve the launcher's calls", "macvlan-egress daemon"),
        ("and let Prometheus in", "macvlan-egress daemon --listen 127.0.0.1:9477"),
    ),
    "demo": (
        ("watch it", "macvlan-egress demo"),
        ("have a machine watch it", "macvlan-egress demo --json"),
    ),
    "doctor": (
        ("look at this node", "macvlan-egress doctor"),
        ("only at what is not well", "macvlan-egress doctor --quiet"),
        ("only at the NICs and the conflist", "macvlan-egress doctor nic conflist"),
    ),
    "install": (
        (
            "see what would change",
            "macvlan-egress install --namespaces egress --dry-run",
        ),
        ("do it", "macvlan-egress install --namespaces egress"),
        (
            "and put it back whenever the main CNI writes its file anew",
            "macvlan-egress install --namespaces egress --watch",
        ),
    ),
    "launcher": (
        ("look at it", "macvlan-egress launcher"),
        ("put it where the runtime looks", "macvlan-egress launcher --write /opt/cni/bin"),
        ("the native one, for the daemon", "macvlan-egress launcher --native --write /opt/cni/bin"),
    ),
    "manual": (
        ("read it", "macvlan-egress manual | man -l -"),
        (
            "install it",
            "macvlan-egress manual > /usr/share/man/man8/macvlan-egress.8",
        ),
    ),
    "metrics": (("what Prometheus would get", "macvlan-egress metrics"),),
    "migrate": (
        ("what could be carried over?", "macvlan-egress migrate --check -f router.yaml"),
        (
            "an egress router pod, as a Deployment with a Service",
            "macvlan-egress migrate --deployment -f router.yaml > egress.yaml",
        ),
        (
            "every EgressRouter object of a cluster",
            "kubectl get egressrouters -A -o yaml | macvlan-egress migrate -f -",
        ),
    ),
    "plan": (
        ("what would an ADD do?", "macvlan-egress plan -f pod.yaml"),
        (
            "with a conflist that is not installed yet",
            "macvlan-egress plan -f pod.yaml --conflist 10-mynet.conflist",
        ),
    ),
    "policy": (
        ("who may reach what, and what was denied?", "macvlan-egress policy status"),
        (
            "why is this refused?",
            "macvlan-egress policy explain shop 203.0.113.25:443/tcp",
        ),
    ),
    "policy explain": (
        (
            "a port of an address",
            "macvlan-egress policy explain shop 203.0.113.25:443/tcp",
        ),
        ("a name", "macvlan-egress policy explain shop api.partner.example"),
        (
            "by documents that are not in force",
            "macvlan-egress policy explain -f policy.yaml shop 203.0.113.25",
        ),
    ),
    "policy status": (
        ("what is in force", "macvlan-egress policy status"),
        ("the same for a machine", "macvlan-egress policy status --json"),
    ),
    "policy sync": (
        ("once", "macvlan-egress policy sync"),
        ("and from now on", "macvlan-egress policy sync --follow"),
    ),
    "policy validate": (
        ("a document", "macvlan-egress policy validate policy.yaml"),
        (
            "all of this node's",
            "macvlan-egress policy validate /etc/cni/macvlan-egress/policies.d",
        ),
    ),
    "status": (
        ("a table", "macvlan-egress status"),
        ("one JSON object", "macvlan-egress status --json"),
    ),
    "uninstall": (
        ("see what would change", "macvlan-egress uninstall --dry-run"),
        ("take it out of the conflist", "macvlan-egress uninstall"),
    ),
    "validate": (
        ("a conflist", "macvlan-egress validate /etc/cni/net.d/10-mynet.conflist"),
        ("a pod", "macvlan-egress validate -f pod.yaml"),
    ),
    "version": (("to be named in a report", "macvlan-egress version"),),
}


def epilog(command: str) -> str | None:
    """The examples of a command as its help shows them; None if there are none."""
    found = EXAMPLES.get(command)
    if not found:
        return None
    return "examples:\n" + "\n".join(f"  # {what}\n  {line}" for what, line in found)
