"""A Kubernetes service network in namespaces, to tell if a service proxy is correct and how fast it is."""
