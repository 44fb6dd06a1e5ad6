"""Looks for known traps in the environment that it runs in: ``wsmanager doctor``.

In a running application, where the settings are known::

    from wsmanager.doctor import examine

    for finding in examine():
        print(finding.id, finding.severity, finding.message, finding.remedy)
"""

from __future__ import annotations

from .examination import CHECKS, examine
from .finding import Finding, Severity

__all__ = ["CHECKS", "Finding", "Severity", "examine"]
