"""Where a pod's annotations come from."""
