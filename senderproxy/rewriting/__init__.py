"""What must change so that the provider takes it? Pure; a plan is a value that can be shown."""
