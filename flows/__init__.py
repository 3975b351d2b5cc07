"""Prefect's flows: they decide when and where stages run, never what stages compute.

Prefect opens its connections as soon as a flow is called, by hand or by a worker, and flows start stages. So the
environment is set when this package is imported.
"""

from fusmae.runs.environment import collect_garbage_rarely, exclude_this_machine, wait_without_spinning

exclude_this_machine()
wait_without_spinning()
collect_garbage_rarely()
