"""Every kind of finding: what it means and what to do. docs/doctor.md is checked against this table."""

from __future__ import annotations

from . import machine_kinds, running_kinds, setup_kinds

AREAS = {
    "examination": "Examination",
    "kernel": "Kernel (tried in a throwaway namespace)",
    "nic": "NIC",
    "runtime": "Container runtime",
    "executable": "Executable",
    "conflist": "CNI configuration",
    "state": "State and leftovers",
    "clock": "Clock",
}

KINDS = {**machine_kinds.KINDS, **setup_kinds.KINDS, **running_kinds.KINDS}
