using System.Diagnostics;
using System.Net.Http.Json;
using System.Text.Json;
using Aspire.Hosting.Orchestration;

namespace Pipeline.AppHost.Tests;

/// <summary>The stand-in for Aspire.Hosting, with real processes.</summary>
[Collection(StandIn.OneAtATime)]
public sealed class StandInTests
{
    private const string Sleeps = "exec sleep 1000";

    public StandInTests() => Assert.SkipUnless(OperatingSystem.IsLinux(), "The stand-in's process groups, and /proc, are Linux's.");

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_resource_starts_once_the_ready_callbacks_of_what_it_waits_for_have_ended()
    {
        await using var app = new StandIn();
        var ready = new TaskCompletionSource();
        var server = app.AddScript("server", "touch server; " + Sleeps).OnResourceReady((_, _, _) => ready.Task);
        app.AddScript("client", "touch client; " + Sleeps).WaitFor(server);
        var orchestrator = app.Build();

        app.Run(orchestrator);
        await app.UntilAsync(() => File.Exists(app.Path("server")), "the server to run");
        await Task.Delay(200, Cancelled);
        Assert.False(File.Exists(app.Path("client")));
        Assert.Equal(ResourceState.Waiting, orchestrator.Find("client")!.Status.State);

        ready.SetResult();
        await app.UntilAsync(() => File.Exists(app.Path("client")), "the client to run");
        await app.UntilAsync(() => app.Output.Contains("Everything is ready", StringComparison.Ordinal), "the announcement");
    }

    [Fact]
    public async Task A_wait_that_takes_long_says_what_it_waits_for_and_why()
    {
        await using var app = new StandIn();
        var server = app.AddScript("server", Sleeps).WithHttpEndpoint().WithHttpHealthCheck("/health");
        app.AddScript("client", Sleeps).WaitFor(server);
        var orchestrator = app.Build(waitReportAfter: TimeSpan.FromMilliseconds(300));

        app.Run(orchestrator);

        await app.UntilAsync(() => app.Output.Contains("client has waited 0 s for server: it runs but is not ready: GET http://127.0.0.1:", StringComparison.Ordinal), "the report");
    }

    [Fact]
    public async Task A_process_that_ends_is_reported_with_its_last_lines_and_the_others_go_on()
    {
        await using var app = new StandIn();
        app.AddScript("broken", "echo out of cheese >&2; exit 3");
        app.AddScript("sound", "echo $$ > pid; " + Sleeps);

        app.Run(app.Build());

        await app.UntilAsync(() => app.Output.Contains("curl -X POST", StringComparison.Ordinal), "the report");
        Assert.Contains("broken ended with exit code 3.", app.Output, StringComparison.Ordinal);
        Assert.Contains("    out of cheese", app.Output, StringComparison.Ordinal);
        Assert.True(StandIn.IsAlive(await app.PidInAsync("pid")));
    }

    [Fact]
    public async Task A_missing_program_is_named_and_the_others_go_on()
    {
        await using var app = new StandIn();
        app.Builder.AddExecutable("absent", "no-such-program", app.Folder);
        app.AddScript("sound", "echo $$ > pid; " + Sleeps);

        app.Run(app.Build());

        await app.UntilAsync(() => app.Output.Contains("absent failed to start: The program `no-such-program` was not found", StringComparison.Ordinal), "the report");
        Assert.True(StandIn.IsAlive(await app.PidInAsync("pid")));
    }

    [Fact]
    public async Task A_killed_process_can_be_started_again_over_the_control_service()
    {
        await using var app = new StandIn();
        app.AddScript("worker", "echo $$ > pid; " + Sleeps);
        var orchestrator = app.Build();
        app.Run(orchestrator);
        var first = await app.PidInAsync("pid");
        using (var process = Process.GetProcessById(first))
        {
            process.Kill();
        }

        await app.UntilAsync(() => orchestrator.Find("worker")!.Status.State == ResourceState.Exited, "the end");
        Assert.Contains("worker ended with SIGKILL.", app.Output, StringComparison.Ordinal);
        File.Delete(app.Path("pid"));

        using var http = new HttpClient { BaseAddress = new Uri(orchestrator.ControlUrl) };
        using var answer = await http.PostAsync("/resources/worker/start", content: null, Cancelled);
        Assert.True(answer.IsSuccessStatusCode);

        var second = await app.PidInAsync("pid");
        Assert.NotEqual(first, second);
        var resources = await http.GetFromJsonAsync<JsonElement>("/resources", Cancelled);
        Assert.Equal(second, resources[0].GetProperty("pid").GetInt32());
        using var fromAPage = new HttpRequestMessage(HttpMethod.Post, "/resources/worker/stop") { Headers = { { "Origin", "http://example.com" } } };
        using var refused = await http.SendAsync(fromAPage, Cancelled);
        Assert.Equal(System.Net.HttpStatusCode.Forbidden, refused.StatusCode);
    }

    [Fact]
    public async Task A_command_of_a_resource_is_carried_out_and_tells_why_it_failed()
    {
        await using var app = new StandIn();
        app.AddScript("worker", Sleeps)
            .WithCommand("greet", "Greet", context => Task.FromResult(CommandResults.Success($"hello {context.ResourceName}")))
            .WithCommand("break", "Break", _ => Task.FromResult(CommandResults.Failure("out of cheese")));
        var orchestrator = app.Build();
        app.Run(orchestrator);
        await app.UntilAsync(() => orchestrator.Find("worker")!.Status.State == ResourceState.Running, "the worker");
        using var http = new HttpClient { BaseAddress = new Uri(orchestrator.ControlUrl) };

        Assert.Equal((true, """{"message":"hello worker"}"""), await TellAsync("greet"));
        Assert.Equal((false, """{"message":"out of cheese"}"""), await TellAsync("break"));
        Assert.Equal((false, """{"message":"There is no command dance of worker: start, stop, restart, greet, break."}"""), await TellAsync("dance"));

        async Task<(bool, string)> TellAsync(string command)
        {
            using var answer = await http.PostAsync($"/resources/worker/{command}", content: null, Cancelled);
            return (answer.IsSuccessStatusCode, await answer.Content.ReadAsStringAsync(Cancelled));
        }
    }

    [Fact]
    public async Task Stopping_ends_what_a_process_started_even_if_it_ignores_SIGTERM()
    {
        await using var app = new StandIn();
        app.AddScript("stubborn", "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > parent; wait; wait");
        app.Run(app.Build(stopGrace: TimeSpan.FromMilliseconds(300)));
        var (parent, child) = (await app.PidInAsync("parent"), await app.PidInAsync("child"));

        await app.StopAsync();

        Assert.False(StandIn.IsAlive(parent));
        await app.UntilAsync(() => !StandIn.IsAlive(child), "the grandchild's end");
        Assert.False(File.Exists(app.Path("running.json")));
    }

    [Fact]
    public async Task Clients_are_stopped_before_the_servers_that_they_wait_for()
    {
        await using var app = new StandIn();
        var server = app.AddScript("server", "trap 'echo server >> order; exit' TERM; echo $$ > server; while :; do sleep 0.05; done");
        app.AddScript("client", "trap 'sleep 0.3; echo client >> order; exit' TERM; echo $$ > client; while :; do sleep 0.05; done").WaitFor(server);
        app.Run(app.Build());
        await app.PidInAsync("client");

        await app.StopAsync();

        Assert.Equal(["client", "server"], await File.ReadAllLinesAsync(app.Path("order"), Cancelled));
    }

    [Fact]
    public async Task A_project_gets_the_environment_that_Aspire_gives_it()
    {
        await using var app = new StandIn();
        var server = app.AddScript("database", Sleeps).WithEndpoint(port: 4001, name: "tcp");
        var database = app.Builder.AddConnectionString(
            "orders", ReferenceExpression.Create($"Host={server.GetEndpoint("tcp").Property(EndpointProperty.IPV4Host)};Port={server.GetEndpoint("tcp").Property(EndpointProperty.Port)}"));
        var emulator = app.AddScript("emulator", Sleeps).WithHttpEndpoint(port: 4002);
        var api = app.Builder.AddProject("api", "Api/Api.csproj")
            .WithHttpEndpoint(port: 4003)
            .WithReference(database)
            .WithEnvironment("RUNTIME_API", $"{emulator.GetEndpoint("http").Property(EndpointProperty.HostAndPort)}/function")
            .WithEnvironment("EMULATOR", emulator.GetEndpoint("http"));

        var environment = await app.Build().EnvironmentOfAsync(api.Resource, Cancelled);

        Assert.Equal("http://localhost:4003", environment["ASPNETCORE_URLS"]);
        Assert.Equal("Host=127.0.0.1;Port=4001", environment["ConnectionStrings__orders"]);
        Assert.Equal("localhost:4002/function", environment["RUNTIME_API"]);
        Assert.Equal("http://localhost:4002", environment["EMULATOR"]);
        Assert.Equal(Environment.GetEnvironmentVariable("PATH"), environment["PATH"]);
        Assert.DoesNotContain(environment.Keys, name => name.StartsWith("ASPIRE_", StringComparison.Ordinal));
    }

    [Fact]
    public void Resources_that_wait_for_each_other_are_refused()
    {
        var app = new StandIn();
        var first = app.AddScript("first", Sleeps);
        var second = app.AddScript("second", Sleeps).WaitFor(first);
        first.WaitFor(second);

        var refused = Assert.Throws<DistributedApplicationException>(() => app.Build());
        Assert.Contains("first → second", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_a_killed_AppHost_left_is_stopped_and_nothing_else_is()
    {
        await using var app = new StandIn();
        using var left = Process.Start("setsid", ["sleep", "1000"]);
        using var other = Process.Start("setsid", ["sleep", "1000"]);
        object[] record =
        [
            new { Name = "apphost", Id = int.MaxValue, StartTime = DateTime.UtcNow },
            new { Name = "left", left.Id, StartTime = left.StartTime.ToUniversalTime() },
            // Its id was somebody else's when the record was written.
            new { Name = "reused", other.Id, StartTime = other.StartTime.ToUniversalTime().AddMinutes(-1) },
        ];
        await File.WriteAllTextAsync(app.Path("running.json"), JsonSerializer.Serialize(record), Cancelled);
        try
        {
            app.Builder.RunRecord.StopLeftovers();

            Assert.True(left.WaitForExit(TimeSpan.FromSeconds(5)));
            Assert.False(other.HasExited);
            Assert.False(File.Exists(app.Path("running.json")));
            Assert.Contains($"left (process {left.Id}) is left from an AppHost that was killed", app.Output, StringComparison.Ordinal);
        }
        finally
        {
            left.Kill();
            other.Kill();
        }
    }

    [Fact]
    public async Task A_second_AppHost_is_refused_while_the_first_runs()
    {
        await using var app = new StandIn();
        app.AddScript("worker", "echo $$ > pid; " + Sleeps);
        app.Run(app.Build());
        var worker = await app.PidInAsync("pid");
        await app.UntilAsync(() => File.Exists(app.Path("running.json")), "the record");

        var second = new DistributedApplicationBuilder([], app.Folder, app.Folder, TextWriter.Null);

        var refused = Assert.Throws<DistributedApplicationException>(second.RunRecord.StopLeftovers);
        Assert.Contains($"kill {Environment.ProcessId}", refused.Message, StringComparison.Ordinal);
        Assert.True(StandIn.IsAlive(worker));
    }
}
