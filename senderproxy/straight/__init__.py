"""The straight path of the usual message: in pass-through without a task, a future or a timer of its own."""
