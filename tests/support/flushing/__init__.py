"""An app that only tests install: a `flush` that costs what was written, not what there is."""
