using System.Net;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.Runtime.Internal;
using Amazon.Runtime.Internal.Transform;
using Amazon.Runtime.Internal.Util;

namespace Pipeline.LambdaEmulator.Streams;

/// <summary>
/// The four calls of the DynamoDB Streams API through the SDK's own pipeline: credentials, signing, retries, checksum
/// and error parsing are those of the DynamoDB client. AWSSDK.DynamoDBStreams, whose job this is, would bring a second
/// model of every record; here the records' JSON goes on to the function as it came.
/// </summary>
public class DynamoDbStreamsClient(AWSCredentials credentials, AmazonDynamoDBConfig config)
    : AmazonDynamoDBClient(credentials, config)
{
    /// <summary>With the credentials of the environment. Retries are few: whoever calls tries again by itself, with a log.</summary>
    public static DynamoDbStreamsClient For(Uri endpoint, string region) => new(
        new EnvironmentVariablesAWSCredentials(),
        new AmazonDynamoDBConfig
        {
            ServiceURL = endpoint.ToString(),
            AuthenticationRegion = region,
            MaxErrorRetry = 1,
            // GetRecords answers in milliseconds; a server that does not for this long is tried anew.
            Timeout = TimeSpan.FromSeconds(20),
        });

    /// <summary>The JSON of a streams call's answer.</summary>
    public virtual Task<ReadOnlyMemory<byte>> CallAsync(string operation, JsonObject request, CancellationToken cancellationToken) =>
        CallAsync(new StreamsRequest(operation, request.ToJsonString()), cancellationToken);

    private async Task<ReadOnlyMemory<byte>> CallAsync(StreamsRequest request, CancellationToken cancellationToken)
    {
        var options = new InvokeOptions { RequestMarshaller = new Marshaller(), ResponseUnmarshaller = new Unmarshaller() };
        return (await InvokeAsync<StreamsResponse>(request, options, cancellationToken)).Body;
    }

    private sealed class StreamsRequest(string operation, string body) : AmazonDynamoDBRequest
    {
        public string Operation => operation;

        public string Body => body;
    }

    private sealed class StreamsResponse : AmazonWebServiceResponse
    {
        public ReadOnlyMemory<byte> Body { get; init; }
    }

    private sealed class Marshaller : IMarshaller<IRequest, AmazonWebServiceRequest>
    {
        public IRequest Marshall(AmazonWebServiceRequest input)
        {
            var call = (StreamsRequest)input;
            var request = new DefaultRequest(call, "Amazon.DynamoDBv2")
            {
                HttpMethod = "POST",
                ResourcePath = "/",
                Content = System.Text.Encoding.UTF8.GetBytes(call.Body),
            };
            request.Headers["Content-Type"] = "application/x-amz-json-1.0";
            request.Headers["X-Amz-Target"] = $"DynamoDBStreams_20120810.{call.Operation}";
            return request;
        }
    }

    private sealed class Unmarshaller : JsonResponseUnmarshaller
    {
        public override AmazonWebServiceResponse Unmarshall(JsonUnmarshallerContext context)
        {
            using var body = new MemoryStream((int)Math.Max(0, context.ResponseData.ContentLength));
            context.Stream.CopyTo(body);
            return new StreamsResponse { Body = body.GetBuffer().AsMemory(0, (int)body.Length) };
        }

        public override AmazonServiceException UnmarshallException(
            JsonUnmarshallerContext context, Exception innerException, HttpStatusCode statusCode)
        {
            var reader = new StreamingUtf8JsonReader(context.Stream);
            var error = JsonErrorResponseUnmarshaller.GetInstance().Unmarshall(context, ref reader);
            return new AmazonDynamoDBException(error.Message, innerException, error.Type, error.Code, error.RequestId, statusCode);
        }
    }
}
