"""Shared fixtures and hooks are in the plugin `tests.support.embedded`."""

pytest_plugins = ["tests.support.embedded"]
