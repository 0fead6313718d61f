"""The example project of docs/journey.md: `manage.py STAGE COMMAND …`; the stage is 0 or 1."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    stage, command = sys.argv[1:2], sys.argv[2:]
    if stage not in (["0"], ["1"]):
        sys.exit("error: expected the stage, 0 or 1, and a command")
    os.environ["DJANGO_SETTINGS_MODULE"] = f"stage{stage[0]}.settings"
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # stage 1 uses `placement`
    execute_from_command_line([__file__, *command])
