from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class Customer(AbstractBaseUser):
    name = models.CharField(max_length=200)
    email = models.EmailField(unique=True)
    credit_limit = models.DecimalField(max_digits=12, decimal_places=2, default=1000)
    joined_at = models.DateTimeField(auto_now_add=True)
    USERNAME_FIELD = "email"


class Reservation(models.Model):
    order_id = models.BigIntegerField(primary_key=True)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="reservations")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
