"""What must always be true, asked of a database as it is: `manage.py verify`.

Reads only, in one snapshot, so that it can be asked of a live system. Each module holds some checks and what each means.
"""

from pems_sync.verifying.looking import Check, Checked, Scope, carry_out, told
from pems_sync.verifying.running import CHECKS, compare_with_pems, verify

__all__ = ["CHECKS", "Check", "Checked", "Scope", "carry_out", "compare_with_pems", "told", "verify"]
