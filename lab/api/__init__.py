"""The three ways over HTTP, at /lab/. No log-in: for development only."""
