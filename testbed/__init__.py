"""A Kubernetes service network in namespaces, to tell whether a service proxy is correct and how fast it is."""
