"""Ingress: HTTP by host and path to Services, served by an nginx that follows the API."""
