"""Migrates one deployment's databases, then creates its administrator unless it exists.

Run as `python -m config.prepare EMAIL PASSWORD_FILE` in the deployment's environment. One process
does both, because starting Django takes most of the time.
"""

import os
import sys
from pathlib import Path


def main(email: str, password_file: Path) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    if "accounts" in settings.SERVICES:
        # Each start runs this. It must not undo a new password, or a deactivation, after a leak.
        call_command("seed_staff", email=email, password_file=password_file, keep=True)
    _superuser(email, password_file.read_text().strip())


def _superuser(email: str, password: str) -> None:
    """Create the admin site's superuser; an existing superuser keeps its password."""
    from django.contrib.auth import get_user_model

    users = get_user_model()._default_manager
    if not users.filter(username=email).exists():
        users.create_superuser(username=email, email=email, password=password)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
