"""What administers a broker: users, virtual hosts, rights, policies, limits, parameters, queues, connections.

Each verb is a row of a table: what it is given, and what it does with a `Node`. It checks everything before it
changes anything, and refuses in one line that names what was wrong. Where a request came from, whether its sender may
ask for that, and when its change is durable is the business of whoever serves it. Nothing here waits.
"""

from __future__ import annotations
