using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Amazon.Lambda.Core;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.Lambda.RuntimeSupport;
using Amazon.Lambda.Serialization.SystemTextJson;
using Microsoft.Extensions.Time.Testing;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The Lambda Runtime API over real HTTP, driven by Lambda's own client and by bare requests.</summary>
public sealed partial class RuntimeApiTests
{
    [Fact]
    [Rule(Pages.RuntimeApi, "next: the body is the event; the headers give request id, deadline, invoked ARN and trace id.")]
    public async Task The_next_event_comes_with_its_headers()
    {
        await using var host = await FunctionHost.StartAsync(timeout: TimeSpan.FromSeconds(42));
        var before = DateTimeOffset.UtcNow;
        var outcome = host.InvokeAsync("""{"a":1}""");
        var next = await host.NextAsync();

        Assert.Equal(HttpStatusCode.OK, next.StatusCode);
        Assert.Equal("""{"a":1}""", await next.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        Assert.Equal("application/json", next.Content.Headers.ContentType!.MediaType);
        Assert.True(Guid.TryParse(FunctionHost.RequestIdOf(next), out _));
        Assert.Equal("arn:aws:lambda:us-east-1:000000000000:function:orders", next.Headers.GetValues("Lambda-Runtime-Invoked-Function-Arn").Single());
        Assert.Matches(TraceHeader(), next.Headers.GetValues("Lambda-Runtime-Trace-Id").Single());
        var deadline = DateTimeOffset.FromUnixTimeMilliseconds(
            long.Parse(next.Headers.GetValues("Lambda-Runtime-Deadline-Ms").Single(), CultureInfo.InvariantCulture));
        Assert.InRange(deadline - before, TimeSpan.FromSeconds(41.99), TimeSpan.FromSeconds(52));

        var accepted = await host.RespondAsync(FunctionHost.RequestIdOf(next), "[1]");
        Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
        Assert.Equal("""{"status":"OK"}""", await accepted.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        Assert.Equal("[1]", Encoding.UTF8.GetString(Assert.IsType<InvocationOutcome.Answered>(await outcome).Response.Span));
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "A runtime asks for the next event, hands it to the handler and posts the response, over and over.")]
    public async Task A_function_with_Lambdas_client_gets_events_and_answers_them()
    {
        await using var host = await FunctionHost.StartAsync();
        _ = host.StartEnvironment(LambdaBootstrapBuilder.Create<DynamoDBEvent, StreamsEventResponse>(
            (change, context) =>
            {
                Assert.InRange(context.RemainingTime, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30));
                return Task.FromResult(new StreamsEventResponse
                {
                    BatchItemFailures = [new() { ItemIdentifier = change.Records[0].Dynamodb.SequenceNumber }],
                });
            },
            new DefaultLambdaJsonSerializer()));
        for (var i = 1; i <= 3; i++)
        {
            var outcome = await host.InvokeAsync($$$"""{"Records":[{"dynamodb":{"SequenceNumber":"{{{i}}}"}}]}""");
            Assert.Equal(
                $$"""{"batchItemFailures":[{"itemIdentifier":"{{i}}"}]}""",
                Encoding.UTF8.GetString(Assert.IsType<InvocationOutcome.Answered>(outcome).Response.Span));
        }
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "error: errorMessage, errorType and stackTrace of the function's exception; the environment goes on.")]
    public async Task An_exception_of_the_handler_is_a_failed_invocation()
    {
        await using var host = await FunctionHost.StartAsync();
        _ = host.StartEnvironment(input => input == "1" ? throw new InvalidTimeZoneException("no such \"zone\"") : "2");
        var failed = Assert.IsType<InvocationOutcome.Failed>(await host.InvokeAsync("1"));
        Assert.Equal("InvalidTimeZoneException", failed.ErrorType);
        Assert.Equal("no such \"zone\"", failed.ErrorMessage);
        using var json = JsonDocument.Parse(failed.Json);
        Assert.NotEqual(0, json.RootElement.GetProperty("stackTrace").GetArrayLength());
        Assert.IsType<InvocationOutcome.Answered>(await host.InvokeAsync("2"));
    }

    [Theory]
    [InlineData("not json")]
    [InlineData("""{"errorMessage":"cut \ud83d","errorType":"T"}""")]
    [InlineData("""{"errorMessage":"m","errorType":"cut \ud83d"}""")]
    [Rule(Pages.RuntimeApi, "error: the header Lambda-Runtime-Function-Error-Type describes the error if the body cannot be read.")]
    public async Task An_error_without_a_readable_body_is_described_by_its_header(string body)
    {
        await using var host = await FunctionHost.StartAsync();
        var outcome = host.InvokeAsync();
        var requestId = FunctionHost.RequestIdOf(await host.NextAsync());
        var accepted = await host.PostErrorAsync($"invocation/{requestId}/error", body, "Function.Broken");
        Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
        var failed = Assert.IsType<InvocationOutcome.Failed>(await outcome);
        Assert.Equal(("Function.Broken", ""), (failed.ErrorType, failed.ErrorMessage));
        Assert.Equal("""{"errorMessage":"","errorType":"Function.Broken"}""", Encoding.UTF8.GetString(failed.Json.Span));
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "error: Lambda's clients send the X-Ray cause as a header of up to 1 MB.")]
    public async Task An_error_with_a_large_xray_cause_is_accepted()
    {
        await using var host = await FunctionHost.StartAsync();
        var outcome = host.InvokeAsync();
        var requestId = FunctionHost.RequestIdOf(await host.NextAsync());
        var accepted = await host.PostErrorAsync(
            $"invocation/{requestId}/error", """{"errorMessage":"m","errorType":"T"}""", "T", xrayCause: new string('x', 1024 * 1024 - 1));
        Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
        Assert.Equal("m", Assert.IsType<InvocationOutcome.Failed>(await outcome).ErrorMessage);
    }

    [Fact]
    [Rule(Pages.Timeouts, "When the timeout is reached Lambda ends the invocation; it is a function error.")]
    public async Task An_invocation_fails_at_its_deadline_and_a_late_answer_is_refused()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        await using var host = await FunctionHost.StartAsync(timeout: TimeSpan.FromSeconds(3), time: time);
        var outcome = host.InvokeAsync();
        var requestId = FunctionHost.RequestIdOf(await host.NextAsync());
        time.Advance(TimeSpan.FromSeconds(2.9));
        Assert.False(outcome.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(0.1));

        var failed = Assert.IsType<InvocationOutcome.Failed>(await outcome.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken));
        Assert.Equal("Sandbox.Timedout", failed.ErrorType);
        Assert.EndsWith("Task timed out after 3.00 seconds", failed.ErrorMessage, StringComparison.Ordinal);
        var late = await host.RespondAsync(requestId, "{}");
        Assert.Equal(HttpStatusCode.BadRequest, late.StatusCode);
        Assert.Contains("InvalidRequestID", await late.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    [Rule(Pages.Timeouts, "The timeout counts from the delivery of the event: waiting for an environment is not part of it.")]
    public async Task Waiting_for_an_environment_is_not_part_of_the_timeout()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        await using var host = await FunctionHost.StartAsync(timeout: TimeSpan.FromSeconds(3), time: time);
        var outcome = host.InvokeAsync();
        time.Advance(TimeSpan.FromHours(1));
        var requestId = FunctionHost.RequestIdOf(await host.NextAsync());
        await host.RespondAsync(requestId, "{}");
        Assert.IsType<InvocationOutcome.Answered>(await outcome);
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "response: a request id that is not in process is refused with 400.")]
    public async Task A_second_answer_and_an_unknown_request_id_are_refused()
    {
        await using var host = await FunctionHost.StartAsync();
        var outcome = host.InvokeAsync();
        var requestId = FunctionHost.RequestIdOf(await host.NextAsync());
        Assert.Equal(HttpStatusCode.Accepted, (await host.RespondAsync(requestId, "1")).StatusCode);
        Assert.Equal(HttpStatusCode.BadRequest, (await host.RespondAsync(requestId, "2")).StatusCode);
        Assert.Equal(HttpStatusCode.BadRequest, (await host.RespondAsync(Guid.NewGuid().ToString(), "3")).StatusCode);
        Assert.Equal(HttpStatusCode.BadRequest, (await host.RespondAsync("nonsense", "4")).StatusCode);
        Assert.Equal("1", Encoding.UTF8.GetString(Assert.IsType<InvocationOutcome.Answered>(await outcome).Response.Span));
    }

    [Theory]
    [InlineData(ShardProcessor.PayloadBytesMax, HttpStatusCode.Accepted)]
    [InlineData(ShardProcessor.PayloadBytesMax + 1, HttpStatusCode.RequestEntityTooLarge)]
    [Rule(Pages.Quotas, "A response is at most 6 MB; a larger one is refused with 413 and fails the invocation.")]
    public async Task A_response_above_the_limit_fails_the_invocation(int bytes, HttpStatusCode status)
    {
        await using var host = await FunctionHost.StartAsync();
        var outcome = host.InvokeAsync();
        var requestId = FunctionHost.RequestIdOf(await host.NextAsync());
        var answer = await host.RespondAsync(requestId, new string('1', bytes));
        Assert.Equal(status, answer.StatusCode);
        if (status == HttpStatusCode.Accepted)
        {
            Assert.Equal(bytes, Assert.IsType<InvocationOutcome.Answered>(await outcome).Response.Length);
        }
        else
        {
            Assert.Equal("Function.ResponseSizeTooLarge", Assert.IsType<InvocationOutcome.Failed>(await outcome).ErrorType);
        }
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "init/error: the error is served to the invocation that waits.")]
    public async Task An_initialization_error_fails_the_invocation_that_waits()
    {
        await using var host = await FunctionHost.StartAsync();
        var outcome = host.InvokeAsync();
        var environment = host.StartEnvironment(LambdaBootstrapBuilder
            .Create((Stream input, ILambdaContext _) => Task.FromResult(input))
            .UseBootstrapHandler(() => throw new InvalidOperationException("no bucket")));
        await Assert.ThrowsAsync<InvalidOperationException>(() => environment);
        var failed = Assert.IsType<InvocationOutcome.Failed>(await outcome);
        Assert.Equal("InvalidOperationException", failed.ErrorType);
        Assert.Equal("no bucket", failed.ErrorMessage);
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "init/error: without a waiting invocation the error is served to the first that comes.")]
    public async Task An_initialization_error_fails_the_next_invocation_once()
    {
        await using var host = await FunctionHost.StartAsync();
        await host.PostErrorAsync("init/error", """{"errorMessage":"m","errorType":"Runtime.Init"}""");
        Assert.Equal("Runtime.Init", Assert.IsType<InvocationOutcome.Failed>(await host.InvokeAsync()).ErrorType);
        _ = host.StartEnvironment(_ => "1");
        Assert.IsType<InvocationOutcome.Answered>(await host.InvokeAsync());
    }

    [Theory]
    [InlineData("aws-lambda-dotnet/10.0", false)]
    [InlineData(null, true)]
    [Rule(Pages.RuntimeApi, "A process that dies in the middle of an invocation fails it.", Choice = "Lambda supervises the process; here its connection tells, if the client is known to keep connections (RuntimeConnection).")]
    public async Task A_process_that_is_killed_fails_its_invocation_at_once(string? userAgent, bool hasUsedTheConnectionTwice)
    {
        await using var host = await FunctionHost.StartAsync(timeout: TimeSpan.FromMinutes(15));
        using var process = new RawEnvironment(host, userAgent);
        if (hasUsedTheConnectionTwice)
        {
            var first = host.InvokeAsync();
            await process.NextAsync();
            await process.RespondAsync();
            Assert.IsType<InvocationOutcome.Answered>(await first);
        }

        var outcome = host.InvokeAsync();
        await process.NextAsync();
        Assert.False(outcome.IsCompleted);
        process.Kill();
        Assert.Equal("Runtime.ExitError", Assert.IsType<InvocationOutcome.Failed>(await outcome.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken)).ErrorType);
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "A runtime may be a shell script with one HTTP client process per call (Tutorial: Building a custom runtime).")]
    public async Task A_client_with_a_connection_per_call_is_not_taken_for_dead()
    {
        await using var host = await FunctionHost.StartAsync();
        for (var i = 0; i < 3; i++)
        {
            var outcome = host.InvokeAsync();
            string requestId;
            using (var process = new RawEnvironment(host, userAgent: "curl/8.5.0"))
            {
                requestId = await process.NextAsync();
                process.Kill();
            }

            await ClosedConnectionNoticedAsync(host, requestId);
            using var another = new HttpClient { BaseAddress = host.Http.BaseAddress };
            Assert.Equal(HttpStatusCode.Accepted, (await host.RespondAsync(requestId, "{}", another)).StatusCode);
            Assert.IsType<InvocationOutcome.Answered>(await outcome);
        }
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "A runtime may be a shell script, also beside an environment whose client keeps its connections.", Choice = "What one connection shows says nothing about another.")]
    public async Task A_client_with_a_connection_per_call_is_not_taken_for_dead_beside_another()
    {
        await using var host = await FunctionHost.StartAsync();
        using var kept = new RawEnvironment(host, "aws-lambda-dotnet/10.0");
        var first = host.InvokeAsync();
        await kept.NextAsync();
        await kept.RespondAsync();
        await first;

        var outcome = host.InvokeAsync();
        string requestId;
        using (var process = new RawEnvironment(host, userAgent: "curl/8.5.0"))
        {
            requestId = await process.NextAsync();
            process.Kill();
        }

        await ClosedConnectionNoticedAsync(host, requestId);
        Assert.Equal(HttpStatusCode.Accepted, (await host.RespondAsync(requestId, "{}")).StatusCode);
        Assert.IsType<InvocationOutcome.Answered>(await outcome);
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "A live process may close a connection that was idle while its handler worked.", Choice = "After 55 s of idleness a closed connection is a hint only; the deadline decides.")]
    public async Task A_connection_that_is_closed_after_a_long_time_is_not_a_death()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        await using var host = await FunctionHost.StartAsync(timeout: TimeSpan.FromMinutes(15), time: time);
        using var process = new RawEnvironment(host, "aws-lambda-dotnet/10.0");
        var outcome = host.InvokeAsync();
        var requestId = await process.NextAsync();
        time.Advance(TimeSpan.FromSeconds(61));
        process.Kill();
        await ClosedConnectionNoticedAsync(host, requestId);
        Assert.Equal(HttpStatusCode.Accepted, (await host.RespondAsync(requestId, "{}")).StatusCode);
        Assert.IsType<InvocationOutcome.Answered>(await outcome);
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "An invocation is not lost when an environment goes away before it got the event.")]
    public async Task An_environment_that_leaves_while_it_waits_takes_nothing_with_it()
    {
        await using var host = await FunctionHost.StartAsync();
        for (var i = 0; i < 3; i++)
        {
            using var leaving = new RawEnvironment(host, "aws-lambda-dotnet/10.0");
            await leaving.AskAsync();
            await Poll.UntilAsync(() => host.Function.IdleEnvironments == 1);
            leaving.Kill();
            await Poll.UntilAsync(() => host.Function.IdleEnvironments == 0);
        }

        _ = host.StartEnvironment(_ => "1");
        Assert.IsType<InvocationOutcome.Answered>(await host.InvokeAsync());
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "An invocation whose caller gave up, or that found no environment in time, is not sent.", Choice = "Undocumented: in Lambda an environment is started for each. Whoever gives up stands in nobody's way.")]
    public async Task Invocations_that_were_given_up_keep_no_environment_from_the_next()
    {
        await using var host = await FunctionHost.StartAsync();
        using (var gone = new CancellationTokenSource())
        {
            var abandoned = Enumerable.Range(0, 10_000).Select(_ => host.Function.InvokeAsync(Payload, gone.Token)).ToList();
            await gone.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.WhenAll(abandoned));
        }

        Assert.IsType<InvocationOutcome.Throttled>(await host.Function.InvokeAsync(Payload, TestContext.Current.CancellationToken, startWithin: TimeSpan.Zero));
        var free = host.Function.WhenFreeAsync(TestContext.Current.CancellationToken);
        Assert.False(free.IsCompleted);
        var next = host.NextAsync();
        await free.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        var outcome = host.InvokeAsync("[1]");
        Assert.Equal("[1]", await (await next).Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        await host.RespondAsync(FunctionHost.RequestIdOf(await next), "{}");
        Assert.IsType<InvocationOutcome.Answered>(await outcome);
    }

    [Fact]
    [Rule(Pages.Concurrency, "One environment serves one invocation at a time; concurrent invocations need as many environments.")]
    public async Task Two_environments_serve_two_invocations_at_once()
    {
        await using var host = await FunctionHost.StartAsync();
        using var both = new Barrier(2);
        _ = host.StartEnvironment(_ => both.SignalAndWait(TimeSpan.FromSeconds(20)) ? "1" : "0");
        _ = host.StartEnvironment(_ => both.SignalAndWait(TimeSpan.FromSeconds(20)) ? "1" : "0");
        var outcomes = await Task.WhenAll(host.InvokeAsync(), host.InvokeAsync());
        Assert.All(outcomes, outcome => Assert.Equal("1", Encoding.UTF8.GetString(Assert.IsType<InvocationOutcome.Answered>(outcome).Response.Span)));
    }

    [Fact]
    [Rule(Pages.Concurrency, "Above the reserved concurrency invocations are throttled.")]
    public async Task Above_the_reserved_concurrency_an_invocation_is_throttled()
    {
        await using var host = await FunctionHost.StartAsync(reservedConcurrency: 1);
        var first = host.InvokeAsync();
        Assert.IsType<InvocationOutcome.Throttled>(await host.InvokeAsync());
        _ = host.StartEnvironment(_ => "1");
        Assert.IsType<InvocationOutcome.Answered>(await first);
        Assert.IsType<InvocationOutcome.Answered>(await host.InvokeAsync());
    }

    [Fact]
    [Rule(Pages.RuntimeApi, "500: a container error; the runtime should exit promptly.", Choice = "Told to the environments that wait when the emulator ends.")]
    public async Task When_the_emulator_ends_a_waiting_environment_is_told_to_exit()
    {
        await using var host = await FunctionHost.StartAsync();
        var next = host.NextAsync();
        await Poll.UntilAsync(() => host.Function.IdleEnvironments == 1);
        await host.StopAsync();
        Assert.Equal(HttpStatusCode.InternalServerError, (await next).StatusCode);
    }

    [Fact]
    public async Task An_unknown_function_is_answered_with_those_that_exist()
    {
        await using var host = await FunctionHost.StartAsync();
        var answer = await host.Http.GetAsync("/typo/2018-06-01/runtime/invocation/next", TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
        Assert.Contains("No function is called typo. There are: orders.", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    private static EventPayload Payload => EventPayload.Of("{}"u8.ToArray());

    private static Task ClosedConnectionNoticedAsync(FunctionHost host, string requestId) =>
        Poll.UntilAsync(() => host.Log.Messages.Any(message => message.Contains(requestId, StringComparison.Ordinal)));

    [GeneratedRegex("^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]$")]
    private static partial Regex TraceHeader();

    /// <summary>A function's process with one connection that can be cut as a killed process's is.</summary>
    private sealed class RawEnvironment : IDisposable
    {
        private readonly string _userAgent;
        private readonly TcpClient _connection = new();
        private readonly StreamReader _reader;
        private string _requestId = "";

        public RawEnvironment(FunctionHost host, string? userAgent)
        {
            _userAgent = userAgent is null ? "" : $"User-Agent: {userAgent}\r\n";
            _connection.Connect(IPAddress.Loopback, host.Http.BaseAddress!.Port);
            _reader = new StreamReader(_connection.GetStream());
        }

        public Task AskAsync() => SendAsync($"GET /{FunctionHost.Name}/2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n{_userAgent}\r\n");

        public async Task<string> NextAsync()
        {
            await AskAsync();
            var headers = await ReadAsync();
            return _requestId = headers["lambda-runtime-aws-request-id"];
        }

        public async Task RespondAsync()
        {
            await SendAsync($"POST /{FunctionHost.Name}/2018-06-01/runtime/invocation/{_requestId}/response HTTP/1.1\r\nHost: x\r\n{_userAgent}Content-Length: 2\r\n\r\n{{}}");
            await ReadAsync();
        }

        public void Kill() => _connection.Close();

        public void Dispose() => _connection.Dispose();

        private async Task SendAsync(string request) => await _connection.GetStream().WriteAsync(Encoding.ASCII.GetBytes(request), TestContext.Current.CancellationToken);

        private async Task<Dictionary<string, string>> ReadAsync()
        {
            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            await _reader.ReadLineAsync();
            while (await _reader.ReadLineAsync() is { Length: > 0 } line)
            {
                headers[line.Split(':')[0]] = line.Split(':', 2)[1].Trim();
            }

            if (headers.TryGetValue("content-length", out var length))
            {
                await _reader.ReadBlockAsync(new char[int.Parse(length, CultureInfo.InvariantCulture)]);
            }
            else
            {
                // Chunked: one chunk and the end.
                var size = Convert.ToInt32(await _reader.ReadLineAsync(), 16);
                await _reader.ReadBlockAsync(new char[size]);
                for (var i = 0; i < 3; i++)
                {
                    await _reader.ReadLineAsync();
                }
            }

            return headers;
        }
    }
}
