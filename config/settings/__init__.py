"""Django's settings for every shape, one module per subject, with values from `config.environ`.

SERVICE decides which services are installed and where their data is. There are no settings per
deployment: every difference is an environment variable.
"""

from config.settings.applications import *
from config.settings.data import *
from config.settings.http import *
from config.settings.logs import *
from config.settings.security import *
from config.settings.work import *
