"""The embedded stack: real PostgreSQL and Valkey servers, and every process of the application.

For development and tests only: the production image doesn't contain it. Nothing here reads
Django's settings; `servers` and the modules that it imports work without Django.
"""
