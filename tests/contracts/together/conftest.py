from tests.support.surroundings import SERVICES

# Models of a service that isn't installed can't even be imported.
collect_ignore_glob = [] if len(SERVICES) > 1 else ["test_*.py"]
