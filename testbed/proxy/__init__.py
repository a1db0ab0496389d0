"""The service proxy agent: watches Services, computes a Snapshot, and a mode writes it into the kernel."""
