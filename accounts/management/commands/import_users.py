from datetime import datetime
from decimal import Decimal

import msgspec
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts.domain.commands import ImportUser
from accounts.domain.errors import AccountsError
from accounts.handlers import import_user
from placement.dumps import Row
from placement.management.importing import ImportCommand


class Customer(msgspec.Struct):
    """The fields of a row. `password` is Django's hash."""

    name: str
    email: str
    password: str
    credit_limit: Decimal
    joined_at: datetime


class Command(ImportCommand):
    help = "Import the customers of another Django project, with their passwords (idempotent)."
    model = "customers.customer"
    noun = "users"
    errors = (AccountsError, ValidationError)

    def import_row(self, row: Row) -> bool:
        customer = msgspec.convert(row.fields, type=Customer)
        validate_email(customer.email)
        return import_user(
            ImportUser(
                user_id=row.id,
                name=customer.name,
                email=customer.email,
                password=customer.password,
                credit_limit=customer.credit_limit,
                registered_at=customer.joined_at,
            )
        )
