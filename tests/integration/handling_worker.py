"""What processes of the tests run: a plain handler that takes its time and writes down what it did.

Lines go to one file in the order of their writing, whichever process writes: ``begin|end PID KEY DATA``.
"""

from __future__ import annotations

import os
import time

from kstream import Record, Worker

NAP = float(os.environ.get("NAP", "0"))
HANDLED = os.environ["HANDLED"]

worker = Worker(os.environ["STREAM"], group="handling")


@worker.handler
def handle(record: Record) -> None:
    """Take as long as the test wants."""
    say("begin", record)
    time.sleep(NAP)
    say("end", record)


def say(what: str, record: Record) -> None:
    """Append a line at once: a process that is killed must not take it with it."""
    line = f"{what} {os.getpid()} {record.key} {record.value.decode()}\n"
    file = os.open(HANDLED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)
