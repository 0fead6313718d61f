"""Builds the folder `outbox` as a package that pip installs: `./dev wheel`.

All imports in `outbox` are relative, so the build only renames the folder. pyproject.toml has the
package's metadata, and requirements.txt locks the tools. This folder is for development only.
"""
