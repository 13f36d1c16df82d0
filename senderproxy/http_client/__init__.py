"""HTTP requests to a few configured servers: webhooks, monitoring, OAuth. The only importer of http."""
