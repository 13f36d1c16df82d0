"""HTTP requests to a few servers that the operator names: webhooks, monitoring, OAuth. Only here is http imported."""
