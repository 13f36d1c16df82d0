"""DNS queries that the system's resolver cannot make. The only package that imports dnspython."""
