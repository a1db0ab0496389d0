"""The userspace proxy's own process: it carries the bytes, and no sync holds it up.

It is told what to serve over a socket (`testbed.proxy.dataplane.control`), and needs nothing but the kernel.
"""
