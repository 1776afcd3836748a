"""Whether paths of the user can be found: false in a forbidden folder, or on a stale share.

The methods of `Path` raise there.
"""

from __future__ import annotations

import os

exists = os.path.exists
is_dir = os.path.isdir
is_file = os.path.isfile
