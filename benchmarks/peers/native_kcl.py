"""native-aws-kcl-py: a consumer only; leases in DynamoDB, a checkpoint for each batch."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from .gauge import REGION, STREAM, Asked, Gauge, asked


async def main(job: Asked) -> None:
    """Run a scheduler until all records came."""
    kcl: Any = importlib.import_module("native_aws_kcl_py")
    gauge = Gauge(job.records)
    done = asyncio.Event()

    class Processor(kcl.ShardRecordProcessor):  # type: ignore[misc]  # of a module found at run time
        async def initialize(self, input: Any) -> None:  # noqa: A002 - its interface
            """Nothing."""

        async def process_records(self, input: Any) -> None:  # noqa: A002 - its interface
            if not input.records:
                return
            all_came = gauge.count(len(input.records))
            await input.checkpointer.checkpoint()
            if all_came:
                done.set()

        async def lease_lost(self, input: Any) -> None:  # noqa: A002 - its interface
            """Nothing."""

        shard_ended = shutdown_requested = lease_lost

    class Factory(kcl.ShardRecordProcessorFactory):  # type: ignore[misc]  # as above
        def create_processor(self) -> Processor:
            return Processor()

    earliest = kcl.InitialPositionInStreamExtended(kcl.InitialPositionInStream.TRIM_HORIZON)
    scheduler = kcl.Scheduler(
        kcl.KinesisConsumerConfig(
            aws=kcl.AwsConfig(
                region=REGION, kinesis_endpoint=job.kinesis, dynamodb_endpoint=job.dynamo
            ),
            application_name="bench",
            stream_name=STREAM,
            record_processor_factory=Factory(),
            initial_position_in_stream=earliest,
            coordinator=kcl.CoordinatorConfig(lease_acquisition_interval_millis=500),
            retrieval=kcl.RetrievalConfig(stream_name=STREAM, idle_time_between_reads_millis=200),
        )
    )
    running = asyncio.ensure_future(scheduler.run())
    await done.wait()
    gauge.tell()
    running.cancel()


if __name__ == "__main__":
    asyncio.run(main(asked()))
