"""From OpenShift's egress routers to unprivileged pods: manifests in, manifests out, and what got lost on the way."""
