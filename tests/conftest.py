"""Everything tests share is in the plugin `tests.support.embedded`."""

pytest_plugins = ["tests.support.embedded"]
