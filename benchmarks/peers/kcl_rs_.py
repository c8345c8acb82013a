"""kcl-rs: a consumer only; LocalStack's port of the KCL 3 to Rust, leases in DynamoDB."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

from .gauge import REGION, STREAM, Asked, Gauge, asked


def main(job: Asked) -> None:
    """Run a scheduler until all records came."""
    os.environ["AWS_ENDPOINT_URL_KINESIS"] = job.kinesis
    os.environ["AWS_ENDPOINT_URL"] = job.dynamo
    kcl: Any = importlib.import_module("kcl_rs")
    gauge = Gauge(job.records)
    done = threading.Event()

    class Processor(kcl.RecordProcessorBase):  # type: ignore[misc]  # of a module found at run time
        def initialize(self, initialize_input: Any) -> None:
            """Nothing."""

        def process_records(self, process_records_input: Any) -> None:
            all_came = gauge.count(len(process_records_input.records))
            process_records_input.checkpointer.checkpoint()
            if all_came:
                done.set()

        def lease_lost(self, lease_lost_input: Any) -> None:
            """Nothing."""

        def shard_ended(self, shard_ended_input: Any) -> None:
            """Nothing."""

        def shutdown_requested(self, shutdown_requested_input: Any) -> None:
            """Nothing."""

    scheduler = kcl.Scheduler(
        stream_name=STREAM,
        application_name="bench",
        record_processor_factory=Processor,
        region=REGION,
        initial_position="TRIM_HORIZON",
        retrieval_mode="POLLING",
        idle_time_between_reads_millis=200,
        shard_sync_interval_millis=1000,
    )
    scheduler.start()
    done.wait()
    gauge.tell()
    os._exit(0)  # its threads would go on for a while


if __name__ == "__main__":
    main(asked())
