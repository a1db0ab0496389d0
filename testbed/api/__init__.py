"""The API server: REST and watch in Kubernetes' own form, over a durable log. It knows no kernel."""
