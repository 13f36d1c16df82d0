"""The page for the browser: a process of its own, which asks the service over the sockets of its roles."""
