"""Finds wrong awaits of the manager factory in a code base, and mends them.

``wsmanager audit PATH…`` on the command line, :func:`audit` in Python. The
code that is read is never imported or run::

    from wsmanager.audit import audit

    report = audit(["src", "tests"])
    for finding in report.findings:
        print(finding.rule, finding.path, finding.line, finding.message)

One pass indexes every file in parallel (what its top level binds, and the sites
the rules may be about), a second resolves those sites through the imports of
the whole tree. Not thread-safe: one run at a time.
"""

from __future__ import annotations

from .findings import Finding, Report, UnparsedFile
from .run import audit
from .settings import Settings, UsageError

__all__ = ["Finding", "Report", "Settings", "UnparsedFile", "UsageError", "audit"]
