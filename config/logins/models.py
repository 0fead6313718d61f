"""The counts of failed log-ins. They are on the primary of the contrib apps of each deployment."""

from django.db import models


class Attempts(models.Model):
    """The attempts under one key in one period: the failed ones, and those that are being checked.
    Also the clients that have logged in to an account, with the count 0.

    The key is a keyed hash, so the table holds no address and no name.
    """

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField()
    ends_at = models.DateTimeField(db_index=True, help_text="The end of the period.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.count} until {self.ends_at:%Y-%m-%d %H:%M:%S}"
