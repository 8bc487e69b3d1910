"""The api role: accepts notifications over HTTP and answers only once they stand in the log."""

from pabal.api.app import create_app

__all__ = ["create_app"]
