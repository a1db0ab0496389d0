"""Cluster DNS: the names of Services and Pods, by the Kubernetes DNS specification."""
