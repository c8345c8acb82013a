"""KCLPY: a consumer only; Amazon's KCL 3 in Java, and a Python process for each shard, on pipes.

The figures are of all these processes together. A checkpoint for each batch, as with the others.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .gauge import REGION, STREAM, Asked, Gauge, asked
from .install import CLASSES_IN

LEASH = Path(__file__).parents[2] / "tests" / "servers" / "leash.py"
CLASSES = Path(sys.prefix, CLASSES_IN)
TICK = os.sysconf("SC_CLK_TCK")


def shard(counts: str) -> None:
    """Handle one shard for the daemon on standard input; tell *counts* of each batch."""
    kcl: Any = importlib.import_module("amazon_kclpy.kcl")
    processor: Any = importlib.import_module("amazon_kclpy.v3.processor")
    told = os.open(counts, os.O_WRONLY | os.O_APPEND)

    class Processor(processor.RecordProcessorBase):  # type: ignore[misc]  # found at run time
        def initialize(self, initialize_input: Any) -> None:
            """Nothing."""

        def process_records(self, process_records_input: Any) -> None:
            records = [record.binary_data for record in process_records_input.records]
            os.write(told, b"%d\n" % len(records))
            process_records_input.checkpointer.checkpoint()

        def lease_lost(self, lease_lost_input: Any) -> None:
            """Nothing."""

        def shard_ended(self, shard_ended_input: Any) -> None:
            shard_ended_input.checkpointer.checkpoint()

        def shutdown_requested(self, shutdown_requested_input: Any) -> None:
            """Nothing."""

    kcl.KCLProcess(Processor()).run()


def main(job: Asked) -> None:
    """Run a daemon until all records came."""
    with tempfile.TemporaryDirectory() as folder:
        counts, settings = Path(folder, "counts"), Path(folder, "daemon.properties")
        counts.touch()
        settings.write_text(
            f"executableName = {sys.executable} -m benchmarks.peers.kclpy_ shard {counts}\n"
            f"streamName = {STREAM}\napplicationName = bench\nregionName = {REGION}\n"
            f"kinesisEndpoint = {job.kinesis}\ndynamoDBEndpoint = {job.dynamo}\n"
            "AwsCredentialsProvider = EnvironmentVariableCredentialsProvider\n"
            "processingLanguage = python\ninitialPositionInStream = TRIM_HORIZON\n"
            "retrievalMode = POLLING\nmaxRecords = 10000\nidleTimeBetweenReadsInMillis = 200\n"
            "shardSyncIntervalMillis = 1000\nmetricsLevel = NONE\n"
        )
        package = importlib.util.find_spec("amazon_kclpy")
        assert package is not None
        assert package.origin is not None
        jars = Path(package.origin).with_name("jars")
        with Path(folder, "log").open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH)]
                + ["java", "-Daws.cborEnabled=false", "-cp", f"{CLASSES}{os.pathsep}{jars}/*"]
                + ["software.amazon.kinesis.multilang.MultiLangDaemon"]
                + ["--properties-file", str(settings)],
                stdin=subprocess.PIPE,  # it ends with this process, however that ends
                stdout=log,
                stderr=log,
            )
        gauge = Gauge(job.records, cpu=lambda: cpu_of(daemon.pid), peak=lambda: peak_of(daemon.pid))
        while gauge.seen < job.records:
            if daemon.poll() is not None:
                sys.exit(f"the daemon ended: {Path(folder, 'log').read_text()[-2000:]}")
            time.sleep(0.005)
            lines = counts.read_bytes().rpartition(b"\n")[0].splitlines()
            found = sum(int(line) for line in lines)
            if found > gauge.seen:
                gauge.count(found - gauge.seen)
        gauge.tell()
        daemon.communicate()


def family(pid: int) -> list[Path]:
    """Return where Linux tells of *pid* and of all that descend from it."""
    place = Path("/proc", str(pid))
    found = [place]
    for task in Path(place, "task").iterdir():
        for child in Path(task, "children").read_text().split():
            found += family(int(child))
    return found


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU of *pid* and its family so far."""
    ticks = 0
    for place in family(pid):
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def peak_of(pid: int) -> float:
    """Return the bytes they had at their peaks."""
    kib = 0
    for place in family(pid):
        lines = (place / "status").read_text().splitlines()
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kib * 1024.0


if __name__ == "__main__":
    if sys.argv[1] == "shard":
        shard(sys.argv[2])
    else:
        main(asked())
