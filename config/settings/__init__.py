"""Django's settings for every shape: one set, divided by meaning, fed by `config.environ`.

SERVICE decides which services are installed and where their data lives. There is no copy per
deployment: what differs between machines is a variable.
"""

from config.settings.applications import *
from config.settings.data import *
from config.settings.http import *
from config.settings.logs import *
from config.settings.security import *
from config.settings.work import *
