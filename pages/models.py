"""The history of the flow page. It is on the primary of the contrib apps of each deployment."""

from django.db import models


class Sample(models.Model):
    """The figures of one service at one time: numbers only, no personal data. Kept for a day.

    `figures` has the exact time `at`, `recorded` and `published` (totals), `unpublished`, `oldest`
    (seconds), and for each consumer and producer its lag in events and seconds and its parked
    events.
    """

    service = models.CharField(max_length=63)
    at = models.DateTimeField(help_text="A multiple of the interval, so that no time comes twice.")
    figures = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["at", "service"], name="pages_one_sample_at_a_time")
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.service} at {self.at:%Y-%m-%d %H:%M:%S}"
