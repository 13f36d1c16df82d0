"""What a person types. One module per verb; each offers `add_parser`."""
