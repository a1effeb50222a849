"""PEMS to here: pages of the list, applied forward. An unchanged row writes nothing; a broken one never stops the page.

`pulling` turns the pages of one run, `runs` keeps where it stands, `applying` stores what is news, `tombstones` draws the
conclusions of a complete sweep, `naming` reads what webhooks and confirmations named, `echoes` leaves
out what we wrote ourselves, `asking` says what is due, `pages` makes one request.
"""

from pems_sync.inbound.applying import apply, mark_gone
from pems_sync.inbound.naming import refresh
from pems_sync.inbound.pulling import pull
from pems_sync.inbound.runs import Pulled

__all__ = ["Pulled", "apply", "mark_gone", "pull", "refresh"]
