"""The embedded stack: real PostgreSQL and Valkey servers, and every process of the application.

Only `servers` and what it imports may be used without Django; nothing here reads settings.
"""
