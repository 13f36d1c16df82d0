"""The container image, built without a daemon: `python -m deploy.container`."""
