"""Egress policies per namespace, with real packets."""
