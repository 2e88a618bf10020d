"""What `macvlan-egress demo` plays with: a network, a runtime, packets, and how they are shown."""
