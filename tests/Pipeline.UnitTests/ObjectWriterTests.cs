using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using Amazon.Runtime;
using Amazon.S3;
using Pipeline.Processor;

namespace Pipeline.UnitTests;

public sealed class ObjectWriterTests
{
    [Fact]
    public async Task A_PUT_has_a_span_that_names_bucket_and_key()
    {
        // Made before the listener, which a source asks while it is being made and not yet to be compared with.
        var activities = ProcessOrders.Activities;
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source == activities,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = ended.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        using var s3 = new AmazonS3Client("local", "local", new AmazonS3Config { ServiceURL = "http://127.0.0.1:1", HttpClientFactory = new Obliging() });

        await new S3ObjectWriter(s3, "a-bucket").PutAsync("a/key", new byte[3], "text/plain", new Dictionary<string, string>(), TestContext.Current.CancellationToken);

        // Other tests run beside this one and are listened to as well.
        var span = Assert.Single(ended, activity => Equals(activity.GetTagItem("aws.s3.key"), "a/key"));
        Assert.Equal(("S3.PutObject", ActivityKind.Client, "a-bucket"), (span.OperationName, span.Kind, span.GetTagItem("aws.s3.bucket")));
    }

    /// <summary>A store that takes everything.</summary>
    private sealed class Obliging : HttpClientFactory
    {
        public override HttpClient CreateHttpClient(IClientConfig clientConfig) => new(new Handler());

        private sealed class Handler : HttpMessageHandler
        {
            protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
                Task.FromResult(new HttpResponseMessage(HttpStatusCode.OK) { Content = new ByteArrayContent([]) });
        }
    }
}
