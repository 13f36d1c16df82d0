"""The page for the browser: a process of its own, with answers of the service from the sockets of its roles."""
