"""The pages people settle conflicts on: an inbox, groups of conflicts that are alike, and one conflict to decide.

Everything is decided through the services, exactly as over the API. The pages work without JavaScript.
"""

from conflicts.admin import inbox  # noqa: F401  (it registers)
