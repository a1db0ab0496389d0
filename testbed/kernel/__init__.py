"""The kernel, one subsystem a file. The only code that touches the system."""
