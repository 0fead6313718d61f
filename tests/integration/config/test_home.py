import pytest


@pytest.mark.django_db
def test_x():
    from django.db import connections
    for a in connections:
        with connections[a].cursor() as c:
            c.execute("select current_schema(), current_database()")
            print(c.fetchone())
