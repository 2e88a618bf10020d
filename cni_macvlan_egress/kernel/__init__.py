"""The border to the kernel: namespaces, netlink, sysctls, raw frames. Decides nothing."""
