"""A whole Kubernetes of one node in namespaces of its own, and what users and admins do with the plugin on it."""
