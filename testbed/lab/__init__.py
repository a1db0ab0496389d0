"""Puts components on machines made of namespaces, and takes them away by ownership."""
