"""The embedded stack: real PostgreSQL and Valkey servers, and every process of the application.

Only development and tests use it: the production image doesn't contain it. No module here reads
Django's settings. `servers` and the modules that it imports work without Django.
"""
