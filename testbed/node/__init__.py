"""A machine: its init, its Pods, CNI, images and probes."""
