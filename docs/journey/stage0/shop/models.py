from django.db import models


class Order(models.Model):
    customer = models.ForeignKey("customers.Customer", models.PROTECT, related_name="orders")
    lines = models.JSONField()  # [{"sku", "quantity", "unit_price"}, …]
    total = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=9, default="CONFIRMED")  # or CANCELLED
    placed_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
