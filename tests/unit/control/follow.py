"""Follows the events of a node until they end, for tests: says when one came, and how they ended."""

import sys

from dhtex.control.client import Client
from dhtex.errors import DhtexError

if __name__ == "__main__":
    try:
        for _ in Client(sys.argv[1]).stream("GET", "/v1/watch?pair=BTC/USD"):
            print("following", flush=True)
        print("ended", flush=True)
    except DhtexError as error:
        print(error.code, flush=True)
