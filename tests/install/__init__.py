"""`install` and `uninstall`: what they do to the files of somebody else."""
