"""AccountDirectory: address -> account (exact, then without +tag, then domain)."""
