"""`python -m cni_macvlan_egress` is the same as the executable."""

import sys

from .entry import script

sys.exit(script())
