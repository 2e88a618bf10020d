"""The verbs: a plan brought to the kernel, checked, and taken back, with the state that outlives the exec."""
