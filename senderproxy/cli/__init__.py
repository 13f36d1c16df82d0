"""Command line. One module for each verb, listed in main.VERBS; each offers `add_arguments`."""
