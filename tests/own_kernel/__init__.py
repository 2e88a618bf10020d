"""What needs a kernel that nobody else uses: `bin/test-kernel` boots one in a virtual machine."""
