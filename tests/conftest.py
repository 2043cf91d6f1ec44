"""Settings of the whole test suite."""

import os

from hypothesis import HealthCheck, settings

# A loaded machine is no bug: no deadlines. In CI the same examples every time; elsewhere new ones.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
