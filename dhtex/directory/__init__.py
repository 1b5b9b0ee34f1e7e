"""Orders in the network: where they are put, how they are kept there, how a pair is read and watched."""
