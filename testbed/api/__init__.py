"""The API server: REST and watch over TLS in Kubernetes' own form, state in a durable log. It knows no kernel."""
