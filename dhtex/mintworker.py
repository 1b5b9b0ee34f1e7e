"""The process that searches for the nonces of stamps, one puzzle at a time; `dhtex.minting` starts it.

One line on stdin asks: puzzle, record id in hex, bits, hour, first nonce. Lines on stdout answer: fractions between 0
and 1, and at last `=` and the nonce. The end of stdin ends the process, also in the middle of a search, so that it
never outlives its node.
"""

import os
import select
import sys
from typing import Final

from dhtex.market.stamp import puzzle_steps

STEPS_PER_REPORT: Final = 64  # about sixty milliseconds
NICE: Final = 5  # the node's answers to others go first


def ask(puzzle: int, record_id: bytes, bits: int, hour: int, start: int) -> bytes:
    """The line that asks for a nonce."""
    return f"{puzzle} {record_id.hex()} {bits} {hour} {start}\n".encode()


def serve(stdin: int, stdout: int) -> None:
    """Answer lines until the input ends."""
    with os.fdopen(stdin, "rb", buffering=0) as questions:
        while line := questions.readline():
            puzzle, record_id, bits, hour, start = line.split()
            search = puzzle_steps(int(puzzle), bytes.fromhex(record_id.decode()), int(bits), int(hour), int(start))
            for number in range(sys.maxsize):
                try:
                    fraction = next(search)
                except StopIteration as found:
                    os.write(stdout, f"={found.value}\n".encode())
                    break
                if number % STEPS_PER_REPORT == 0:
                    if select.select([stdin], [], [], 0)[0]:
                        return
                    os.write(stdout, f"{fraction:.4f}\n".encode())


def main() -> None:
    """Run as a process."""
    os.nice(NICE)
    try:
        serve(0, 1)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
