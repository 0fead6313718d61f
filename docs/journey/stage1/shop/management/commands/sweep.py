from typing import Any

from django.core.management.base import BaseCommand

from ...orders import sweep


class Command(BaseCommand):
    help = "Decide the orders whose task was lost, and reserve credit that confirmed orders miss."

    def handle(self, **_: Any) -> None:
        sweep()
