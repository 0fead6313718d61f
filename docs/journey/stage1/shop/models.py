from django.db import models


class Order(models.Model):
    customer = models.BigIntegerField(db_index=True)  # an id: no foreign key to another schema
    lines = models.JSONField()  # [{"sku", "quantity", "unit_price"}, …]
    total = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=9, default="PENDING")  # CONFIRMED, REJECTED, CANCELLED
    placed_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
