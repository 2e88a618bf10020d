"""A CNI plugin that gives a pod a fixed, firewall-friendly address on the physical network."""

__version__ = "0.1.0"
