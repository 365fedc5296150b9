using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Spectre.Console;

namespace Pipeline.Ops.Seed;

/// <summary><c>seed</c>: the command line around a plan and its run.</summary>
internal static class SeedCommand
{
    public static Command Create()
    {
        var olist = new Option<DirectoryInfo?>("--olist")
        {
            Description = "Send the real orders of the Olist data set (CSV files) in this folder, each with its true lifecycle.",
            HelpName = "DIR",
        };
        var generate = new Option<int?>("--generate")
        {
            Description = "Send this many made-up orders with plausible lifecycles, some canceled, some removed.",
            HelpName = "N",
        };
        var seed = new Option<int>("--seed")
        {
            Description = "With --generate: the same seed gives the same orders.",
            HelpName = "S",
            DefaultValueFactory = _ => 1,
        };
        var limit = new Option<int?>("--limit") { Description = "Send only the first N orders.", HelpName = "N" };
        var api = Options.Address("--api", "The Orders API.", LocalDefaults.OrdersApi);
        var token = ApiTokens.Option();
        var concurrency = new Option<int>("--concurrency")
        {
            Description = "How many orders are sent at the same time (1 to 256). One order's requests always go one after the other.",
            HelpName = "N",
            DefaultValueFactory = _ => 16,
        };
        var json = Options.Json();

        generate.MustBeIn(1, int.MaxValue);
        limit.MustBeIn(1, int.MaxValue);
        concurrency.MustBeIn(1, 256);

        var command = new Command(
            "seed",
            "Send orders through the Orders API: create, then each status change. A repeated or interrupted run goes on where each order "
            + "stands (orders that --generate removes are made and removed anew). With a token that was given, all orders are its merchant's. Exit code 0 when every planned order came to its end, "
            + "1 when one was refused, failed, or was not finished.")
        {
            olist, generate, seed, limit, api, token, concurrency, json,
        };
        command.Validators.Add(result =>
        {
            var sources = (result.GetResult(olist) is null ? 0 : 1) + (result.GetResult(generate) is null ? 0 : 1);
            if (sources != 1)
            {
                result.AddError("Give one source of orders: --olist DIR or --generate N.");
            }
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var asJson = parsed.GetValue(json);
            var console = Terminal.Create(asJson);
            SeedPlan plan;
            ApiTokens tokens;
            try
            {
                tokens = ApiTokens.From(parsed.GetValue(token));
                plan = parsed.GetValue(olist) is { } directory
                    ? OlistPlan.Of(OlistFiles.Read(directory.FullName))
                    : new SeedPlan([.. GeneratedPlan.Of(parsed.GetValue(generate)!.Value, parsed.GetValue(seed))], []);
            }
            catch (Exception error) when (error is SeedInputException or OperatorException)
            {
                console.MarkupLineInterpolated($"[red]{error.Message}[/]");
                return 1;
            }

            if (parsed.GetValue(limit) is { } first)
            {
                var orders = plan.Orders.Take(first).ToList();
                var ids = orders.Select(order => order.Order.OrderId).ToHashSet();
                plan = new SeedPlan(orders, [.. plan.Findings.Where(finding => ids.Contains(finding.OrderId))]);
            }

            if (tokens.Merchant is { } merchant)
            {
                plan = plan with { Orders = [.. plan.Orders.Select(order => order with { Order = order.Order with { MerchantId = merchant } })] };
            }

            var report = await RunAsync(plan, tokens, parsed.GetValue(api)!, parsed.GetValue(concurrency), console, cancellationToken);
            Print(report, console);
            if (asJson)
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(report, SeedReportJsonContext.Default.SeedReport));
            }

            return report.IsClean ? 0 : 1;
        });
        return command;
    }

    private static async Task<SeedReport> RunAsync(SeedPlan plan, ApiTokens tokens, Uri api, int concurrency, IAnsiConsole console, CancellationToken cancellationToken)
    {
        // Each attempt has its own deadline (OrderSender); the pool is as wide as the orders in flight.
        using var handler = new SocketsHttpHandler { MaxConnectionsPerServer = concurrency, PooledConnectionLifetime = TimeSpan.FromMinutes(5) };
        using var http = new HttpClient(handler) { BaseAddress = api, Timeout = Timeout.InfiniteTimeSpan };
        var counters = new SeedCounters();
        var run = SeedRun.RunAsync(plan, http, tokens, counters, concurrency, TimeProvider.System, cancellationToken);
        var watch = Stopwatch.StartNew();
        return await Terminal.WatchAsync(console, run, () => counters.OrdersDone, () => plan.Orders.Count, Progress);

        string Progress() => string.Create(
            CultureInfo.InvariantCulture,
            $"{counters.OrdersDone} of {plan.Orders.Count} orders, {counters.AcceptedWrites} accepted writes, {counters.AcceptedWrites / watch.Elapsed.TotalSeconds:0}/s, {counters.Retries} retries");
    }

    private static void Print(SeedReport report, IAnsiConsole console)
    {
        var table = new Table().Border(TableBorder.Simple).AddColumns("what", "orders", "for example");
        table.Columns[1].RightAligned();
        table.AddRow("planned", Number(report.Planned), "");
        table.AddRow("complete", Number(report.Complete), report.Resumed > 0 ? $"{Number(report.Resumed)} of them begun by an earlier run" : "");
        table.AddRow("complete before", Number(report.CompleteBefore), "");
        AddAll("sent as it is: ", report.Kept);
        AddAll("step not sent: ", report.StepsRejected);
        AddAll("[red]order not sent:[/] ", report.OrdersRejected);
        AddAll("[red]refused by the API:[/] ", report.Refused);
        AddAll("[red]failed:[/] ", report.Failed);
        if (report.NotFinished > 0)
        {
            table.AddRow("[red]not finished[/]", Number(report.NotFinished), "");
        }

        console.Write(table);
        if (report.GivenUp is { } reason)
        {
            console.MarkupLineInterpolated($"[red]Given up: {reason} Run it again to go on.[/]");
        }

        console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"accepted writes: {report.AcceptedWrites} ({report.Created} created, {report.StatusChanges} status changes, {report.Removed} removed) "
            + $"in {report.Seconds:0.0} s, {report.AcceptedWrites / Math.Max(report.Seconds, 0.001):0}/s; {report.Retries} retries, {report.AnswersLost} answers lost and made up for"));

        void AddAll(string prefix, IEnumerable<Tally> tallies)
        {
            foreach (var tally in tallies)
            {
                table.AddRow(new Markup(prefix + Markup.Escape(tally.What)), new Text(Number(tally.Orders)), new Text(tally.Examples[0]));
            }
        }
    }

    private static string Number(long number) => number.ToString("N0", CultureInfo.InvariantCulture);
}
