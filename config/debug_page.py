"""What the error pages of DEBUG don't show."""

from typing import Any

from django.views.debug import SafeExceptionReporterFilter

from config.logs import without_passwords


class ReportFilter(SafeExceptionReporterFilter):
    """Hides the passwords in URLs of servers too. Django hides values by their names only."""

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return without_passwords(cleansed) if isinstance(cleansed, str) else cleansed
