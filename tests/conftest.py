"""Everything tests share is in the plugin `tests.embedded`."""

pytest_plugins = ["tests.embedded"]
