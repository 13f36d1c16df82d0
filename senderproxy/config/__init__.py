"""The TOML configuration file: its settings, their check, problems with line and hint."""
