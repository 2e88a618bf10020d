"""What `macvlan-egress doctor` looks at: one module an area, each a tuple of checks that change nothing."""
