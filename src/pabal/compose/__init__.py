"""Puts the parts together: the log, the ledger, the store, the providers, and the roles that run on them.

The only package that knows concrete adapters. The CLI, the drills, the bench and the chaos scenarios all start roles
from here.
"""
