using System.Net;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The Invoke API.</summary>
public sealed class InvokeApiTests
{
    [Theory]
    [InlineData("orders")]
    [InlineData("orders:$LATEST")]
    [InlineData("arn:aws:lambda:us-east-1:000000000000:function:orders")]
    [Rule(Pages.Invoke, "A function is named by name, qualified name or ARN; the answer is its payload with status 200.")]
    public async Task A_function_is_invoked_by_name_or_arn(string name)
    {
        await using var host = await FunctionHost.StartAsync();
        _ = host.StartEnvironment(input => $"[{input}]");
        var answer = await PostAsync(host, name, """{"a":1}""");
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal("""[{"a":1}]""", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        Assert.Equal("$LATEST", answer.Headers.GetValues("X-Amz-Executed-Version").Single());
        Assert.False(answer.Headers.Contains("X-Amz-Function-Error"));
    }

    [Fact]
    [Rule(Pages.Invoke, "If the function fails, the status is 200, X-Amz-Function-Error is set and the payload is the error.")]
    public async Task A_function_error_is_in_the_header_and_the_payload()
    {
        await using var host = await FunctionHost.StartAsync();
        _ = host.StartEnvironment(_ => throw new InvalidOperationException("on purpose"));
        var answer = await PostAsync(host, "orders", "{}");
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal("Unhandled", answer.Headers.GetValues("X-Amz-Function-Error").Single());
        Assert.Contains("on purpose", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    [Rule(Pages.Invoke, "ResourceNotFoundException, 404.")]
    public async Task An_unknown_function_is_not_found()
    {
        await using var host = await FunctionHost.StartAsync();
        var answer = await PostAsync(host, "typo", "{}");
        Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
        Assert.Equal("ResourceNotFoundException", answer.Headers.GetValues("X-Amzn-ErrorType").Single());
    }

    [Fact]
    [Rule(Pages.Invoke, "TooManyRequestsException, 429.")]
    public async Task A_throttled_invocation_is_answered_with_429()
    {
        await using var host = await FunctionHost.StartAsync(reservedConcurrency: 0);
        Assert.Equal(HttpStatusCode.TooManyRequests, (await PostAsync(host, "orders", "{}")).StatusCode);
    }

    [Fact]
    [Rule(Pages.Invoke, "RequestTooLargeException, 413: the payload of a synchronous invocation is at most 6 MB.")]
    public async Task A_payload_above_the_limit_is_refused()
    {
        await using var host = await FunctionHost.StartAsync();
        var answer = await PostAsync(host, "orders", new string('1', EventSource.ShardProcessor.PayloadBytesMax + 1));
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, answer.StatusCode);
    }

    [Fact]
    [Rule(Pages.Invoke, "InvalidRequestContentException, 400: the request body could not be parsed as JSON.")]
    public async Task A_payload_that_is_not_JSON_is_refused()
    {
        await using var host = await FunctionHost.StartAsync();
        var answer = await PostAsync(host, "orders", "{\"a\":");
        Assert.Equal(HttpStatusCode.BadRequest, answer.StatusCode);
        Assert.Equal("InvalidRequestContentException", answer.Headers.GetValues("X-Amzn-ErrorType").Single());
    }

    [Theory]
    [InlineData("DryRun", HttpStatusCode.NoContent)]
    [InlineData("Event", HttpStatusCode.BadRequest)]
    [Rule(Pages.Invoke, "DryRun validates only, 204.", Choice = "Asynchronous invocations (Event) are not emulated and refused.")]
    public async Task Other_invocation_types_are_answered_without_an_invocation(string type, HttpStatusCode status)
    {
        await using var host = await FunctionHost.StartAsync();
        Assert.Equal(status, (await PostAsync(host, "orders", "{}", type)).StatusCode);
    }

    private static Task<HttpResponseMessage> PostAsync(FunctionHost host, string function, string payload, string? type = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, $"/2015-03-31/functions/{Uri.EscapeDataString(function)}/invocations") { Content = FunctionHost.Json(payload) };
        if (type is not null)
        {
            request.Headers.Add("X-Amz-Invocation-Type", type);
        }

        return host.Http.SendAsync(request);
    }
}
