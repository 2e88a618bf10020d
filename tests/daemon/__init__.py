"""The daemon and its native launcher, as processes on a node."""
