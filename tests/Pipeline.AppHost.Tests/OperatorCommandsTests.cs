using System.Collections.Concurrent;
using System.Net.Http.Json;
using System.Text.Json;
using Aspire.Hosting.Orchestration;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pipeline.NativeServers;

namespace Pipeline.AppHost.Tests;

/// <summary>The dashboard's buttons, pressed without the dashboard.</summary>
[Collection(StandIn.OneAtATime)]
public sealed class OperatorCommandsTests
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Placing_100_orders_sends_them_to_the_API_and_tells_what_came_of_it()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "The stand-in's process groups, and /proc, are Linux's.");

        // An API that takes nobody's token: after the first answers the command gives up.
        var requests = new ConcurrentQueue<(string Line, string Token)>();
        var web = WebApplication.CreateSlimBuilder();
        web.Logging.ClearProviders();
        web.WebHost.UseUrls("http://127.0.0.1:0");
        await using var api = web.Build();
        api.Run(context =>
        {
            requests.Enqueue(($"{context.Request.Method} {context.Request.Path}", context.Request.Headers.Authorization.ToString()));
            context.Response.StatusCode = StatusCodes.Status403Forbidden;
            return Task.CompletedTask;
        });
        await api.StartAsync(Cancelled);
        var address = Assert.Single(api.Urls);
        var key = Convert.ToBase64String(new byte[32]);
        await using var app = new StandIn();
        app.AddScript("orders-api", "exec sleep 1000").WithOperatorCommand(
            "place-orders", "Place 100 orders", new CommandOptions(),
            new Dictionary<string, ReferenceExpression> { [LocalIssuer.KeySetting] = ReferenceExpression.Create($"{key}") },
            () => OperatorCommands.PlaceOrders(address));
        var orchestrator = app.Build();
        app.Run(orchestrator);
        await app.UntilAsync(() => orchestrator.Find("orders-api")!.Status.State == ResourceState.Running, "the resource");
        using var http = new HttpClient { BaseAddress = new Uri(orchestrator.ControlUrl) };

        using var answer = await http.PostAsync("/resources/orders-api/place-orders", content: null, Cancelled);
        var message = (await answer.Content.ReadFromJsonAsync<JsonElement>(Cancelled)).GetProperty("message").GetString()!;

        Assert.False(answer.IsSuccessStatusCode);
        Assert.StartsWith("Exit code 1. ", message, StringComparison.Ordinal);
        Assert.Matches(@"planned\s+100", message);
        Assert.Contains($"The API at {address}/ answers 403", message, StringComparison.Ordinal);
        Assert.NotEmpty(requests);
        Assert.All(requests, request =>
        {
            Assert.Equal("POST /orders", request.Line);
            Assert.StartsWith("Bearer ", request.Token, StringComparison.Ordinal);
        });
    }

    [Fact]
    public void Replaying_today_names_all_hours_of_the_day() => Assert.Equal(
        ["replay", "--from", "2026-11-29T00:00Z", "--to", "2026-11-29T23:00Z"],
        OperatorCommands.ReplayDayOf(new DateTime(2026, 11, 29, 15, 4, 0, DateTimeKind.Utc)));

    [Theory]
    [InlineData(0, "all is equal\n", "a warning\n", "all is equal")]
    [InlineData(0, "", "a note\n", "a note")]
    [InlineData(1, "3 of 4 done\n", "the bucket is away\n", "Exit code 1. 3 of 4 done\nthe bucket is away")]
    [InlineData(2, "", "no key\n", "Exit code 2. no key")]
    public void A_command_that_fails_shows_both_what_it_printed_and_why(int exitCode, string output, string errors, string message)
    {
        var result = OperatorCommands.ResultOf(exitCode, output, errors);

        Assert.Equal((exitCode == 0, message), (result.Success, result.Message));
    }
}
