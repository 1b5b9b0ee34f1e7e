"""`python -m dhtex` is the command line."""

from dhtex.cli.app import main

if __name__ == "__main__":
    main()
