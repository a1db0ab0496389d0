"""The only code that touches the system: one kernel subsystem a file."""
