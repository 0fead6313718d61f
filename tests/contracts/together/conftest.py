from tests.support.surroundings import SERVICES

# Python can't import the models of a service that isn't installed.
collect_ignore_glob = [] if len(SERVICES) > 1 else ["test_*.py"]
