# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documentation of all modules of this collection has in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - snapd-cli, of the Debian package cowsnap-cli
  - cowsnapd, of the Debian package cowsnap, running
attributes:
  check_mode:
    description: Can run in check mode, and says then what would be changed, without changing it.
    support: full
  diff_mode:
    description: Shows what was and what is, or in check mode what would be.
    support: full
notes:
  - Only root may change something; use C(become).
  - In check mode a store or an origin that is not there is taken for one that an earlier task would have made; a warning says so.
"""
