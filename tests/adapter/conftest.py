"""The network of the integration tests, for the adapter's."""

from tests.integration.conftest import bytecode, network

__all__ = ["bytecode", "network"]
