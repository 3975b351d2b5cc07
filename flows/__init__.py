"""Prefect's flows: when and where, never what.

Prefect opens its connections as soon as a flow is called, by hand or by a worker, and flows start stages: so the
environment is set when this package is imported.
"""

from fusmae.runs.environment import exclude_this_machine, wait_without_spinning

exclude_this_machine()
wait_without_spinning()
