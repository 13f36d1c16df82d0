"""The verbs: what is done with a message. Talks to ports, never to a socket or a file."""
