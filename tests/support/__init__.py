"""Servers, fixtures and an example project that the tests share."""
