from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Register a customer who places three orders and cancels one; then list all orders."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *, email: str, **_: Any) -> None:
        orders = import_module(f"{apps.get_app_config('shop').name}.orders")
        customer = apps.get_model("customers", "Customer")(name=email.split("@")[0], email=email)
        customer.set_password("tea-at-four-in-Bern")
        customer.save()
        for quantity in (1, 200, 3):
            tea = {"sku": "tea", "quantity": quantity, "unit_price": "4.50"}
            order = orders.place(customer.pk, [tea])
            if quantity == 200:
                orders.cancel(order.pk)
        for pk, name, status, total in orders.report():
            self.stdout.write(f"{pk:>4}  {name:<10} {status:<9} {total:>8}")
