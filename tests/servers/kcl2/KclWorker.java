import java.net.URI;
import java.nio.charset.StandardCharsets;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.MetricsLevel;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of the Kinesis Client Library 2.x that prints what it is given, one line each.
 *
 * <p>Arguments: application, stream, Kinesis endpoint, DynamoDB endpoint, worker, failover in ms.
 */
public final class KclWorker {
  private static synchronized void say(String line) {
    System.out.println(line);
    System.out.flush();
  }

  public static void main(String[] told) {
    say("PID " + ProcessHandle.current().pid());
    Region region = Region.US_EAST_1;
    // Over plain HTTP the KCL's own client would speak HTTP/2 with prior knowledge.
    KinesisAsyncClient kinesis =
        KinesisAsyncClient.builder()
            .region(region)
            .endpointOverride(URI.create(told[2]))
            .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1))
            .build();
    DynamoDbAsyncClient dynamo =
        DynamoDbAsyncClient.builder().region(region).endpointOverride(URI.create(told[3])).build();
    CloudWatchAsyncClient nobody =
        CloudWatchAsyncClient.builder()
            .region(region)
            .endpointOverride(URI.create("http://127.0.0.1:9"))
            .build();
    ConfigsBuilder configs =
        new ConfigsBuilder(told[1], told[0], kinesis, dynamo, nobody, told[4], Printing::new);
    InitialPositionInStreamExtended oldest =
        InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
    PollingConfig polling = new PollingConfig(told[1], kinesis);
    polling.idleTimeBetweenReadsInMillis(200);
    Scheduler scheduler =
        new Scheduler(
            configs.checkpointConfig(),
            configs.coordinatorConfig().parentShardPollIntervalMillis(500),
            configs
                .leaseManagementConfig()
                .failoverTimeMillis(Long.parseLong(told[5]))
                .shardSyncIntervalMillis(1000)
                .initialPositionInStream(oldest),
            configs.lifecycleConfig(),
            configs.metricsConfig().metricsLevel(MetricsLevel.NONE).metricsFactory(
                new NullMetricsFactory()),
            configs.processorConfig(),
            configs
                .retrievalConfig()
                .initialPositionInStreamExtended(oldest)
                .retrievalSpecificConfig(polling));
    Runtime.getRuntime().addShutdownHook(new Thread(scheduler::shutdown));
    scheduler.run();
  }

  private static final class Printing implements ShardRecordProcessor {
    private String shard = "";

    @Override
    public void initialize(InitializationInput input) {
      shard = input.shardId();
      say("BEGIN " + shard + " " + input.extendedSequenceNumber().sequenceNumber());
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
      for (KinesisClientRecord record : input.records()) {
        String data = StandardCharsets.UTF_8.decode(record.data()).toString();
        say(
            String.join(
                " ",
                "RECORD",
                shard,
                record.sequenceNumber(),
                Long.toString(record.subSequenceNumber()),
                record.partitionKey(),
                data));
      }
      if (input.records().isEmpty()) {
        return;
      }
      try {
        input.checkpointer().checkpoint();
      } catch (Exception lost) {
        say("REFUSED " + shard + " " + lost.getClass().getSimpleName());
      }
    }

    @Override
    public void leaseLost(LeaseLostInput input) {
      say("LOST " + shard);
    }

    @Override
    public void shardEnded(ShardEndedInput input) {
      try {
        input.checkpointer().checkpoint();
        say("END " + shard);
      } catch (Exception lost) {
        say("REFUSED " + shard + " " + lost.getClass().getSimpleName());
      }
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
      try {
        input.checkpointer().checkpoint();
      } catch (Exception lost) {
        say("REFUSED " + shard + " " + lost.getClass().getSimpleName());
      }
    }
  }
}
