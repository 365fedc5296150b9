using System.CommandLine;
using System.Globalization;
using System.Text;
using Pipeline.Loader;
using Spectre.Console;

namespace Pipeline.Ops.Reconcile;

/// <summary><c>reconcile</c>: the command line around a <see cref="Reconciliation"/>.</summary>
internal static class ReconcileCommand
{
    private const int CouldNotTell = 2;

    public static Command Create()
    {
        var endpoints = new Endpoints();
        var segments = Options.Segments();
        var rate = Options.Rate();
        var deadline = Options.Time(
            "--deadline",
            "How long orders that differ are looked at again: what is on its way arrives in that time. The loader finds files of repairs within a minute.",
            TimeSpan.FromSeconds(90));
        var list = new Option<int>("--list")
        {
            Description = "How many differing orders are named (0 to 1000000). All of them are counted.",
            HelpName = "N",
            DefaultValueFactory = _ => 1_000,
        };
        var certificate = new Option<FileInfo?>("--certificate")
        {
            Description = "Write the certificate, as JSON, into this file; it is empty until there is one.",
            HelpName = "FILE",
        };
        var repair = new Option<bool>("--repair")
        {
            Description = "Write the present image of each differing order as a change file, wait for the loader, and look again. The warehouse itself is never edited.",
        };
        var newKey = new Option<bool>("--new-key")
        {
            Description = "The key for personal data was changed: take it although the warehouse has nothing that is protected with it yet.",
        };
        var temporary = Options.Temporary("some 60 bytes an order");
        var json = Options.Json();
        segments.MustBeIn(1, 256);
        list.MustBeIn(0, 1_000_000);

        var command = new Command(
            "reconcile",
            "Compare the table with the warehouse and name every order that differs: missing, extra, older, newer, different, duplicate or undecodable. "
            + "The table is read as a whole, the warehouse hashes its rows itself; orders that differ are looked at again until they agree or the "
            + "deadline passes. Exit code 0 when both sides are equal, 1 when an order differs, 2 when it could not be told (a side was away, or "
            + "orders kept changing). See docs/reconcile.md.")
        {
            segments, rate, deadline, list, certificate, repair, newKey, temporary, json,
        };
        endpoints.AddTo(command, endpoints.Aws, endpoints.DynamoDb, endpoints.S3, endpoints.Table, endpoints.Bucket, endpoints.Warehouse, endpoints.PersonalDataKey);
        command.SetAction((parsed, cancellationToken) => Terminal.GuardAsync(CouldNotTell, async () =>
        {
            var asJson = parsed.GetValue(json);
            var console = Terminal.Create(asJson);
            using var protector = endpoints.PersonalDataOf(parsed);
            using var received = new ReceivedBytes();
            using var dynamo = endpoints.DynamoDbOf(parsed, Terminal.RequestTimeout, Terminal.RequestRetries, received);
            using var s3 = endpoints.S3Of(parsed, Terminal.RequestTimeout, Terminal.RequestRetries);

            // What cannot be written is told now, and not after hours of reading.
            await using var certificateFile = parsed.GetValue(certificate) is { } file ? new FileStream(file.FullName, FileMode.Create, FileAccess.Write) : null;
            await using var warehouse = new WarehouseReader(endpoints.WarehouseOf(parsed) ?? throw Terminal.NoWarehouse());
            var budget = new ReadBudget(parsed.GetValue(rate) ?? (parsed.GetValue(endpoints.Aws) ? Options.RateOnAws : null), TimeProvider.System);
            var reconciliation = new Reconciliation(
                new OrderTable(dynamo, endpoints.TableOf(parsed), budget),
                received,
                warehouse,
                new S3ObjectStore(s3, endpoints.BucketOf(parsed)),
                protector,
                new ReconcileOptions(
                    parsed.GetValue(segments), parsed.GetValue(deadline), parsed.GetValue(list), parsed.GetValue(repair),
                    Options.TemporaryOf(parsed, temporary), parsed.GetValue(newKey)),
                TimeProvider.System);

            var result = await Terminal.WatchAsync(
                console,
                reconciliation.RunAsync(cancellationToken),
                () => reconciliation.Progress.Scanned,
                () => reconciliation.Progress.ItemsAbout,
                () => string.Create(CultureInfo.InvariantCulture, $"{reconciliation.Progress.Phase}, {reconciliation.Progress.Scanned:N0} items"));
            if (certificateFile is not null)
            {
                await certificateFile.WriteAsync(Encoding.UTF8.GetBytes(result.ToJson() + "\n"), cancellationToken);
            }

            Print(result, console);
            if (asJson)
            {
                Console.Out.WriteLine(result.ToJson());
            }

            return result.Result switch
            {
                Verdict.Equal => 0,
                Verdict.Different => 1,
                _ => CouldNotTell,
            };
        }));
        return command;
    }

    private static void Print(Certificate certificate, IAnsiConsole console)
    {
        const int OrdersShown = 20;

        var sides = new Table().Border(TableBorder.Simple).AddColumns("side", "orders", "digest", "read (UTC)");
        sides.Columns[1].RightAligned();
        sides.AddRow(
            $"table {Markup.Escape(certificate.Table.Name)}", Number(certificate.Table.Orders), certificate.Table.Digest, Span(certificate.Table.ReadFrom, certificate.Table.ReadTo));
        sides.AddRow(
            $"warehouse {Markup.Escape(certificate.Warehouse.Name)}", Number(certificate.Warehouse.Orders), certificate.Warehouse.Digest,
            Span(certificate.Warehouse.ReadFrom, certificate.Warehouse.ReadTo));
        console.Write(sides);

        console.WriteLine(
            $"{Number(certificate.LookedAtAgain)} orders differed at first (in {Number(certificate.Buckets.Descended)} of {Number(certificate.Buckets.Total)} buckets); "
            + $"{Number(certificate.Settled)} of them became equal.");
        if (certificate.Repair is { } repair)
        {
            console.WriteLine(
                $"Repair: {Number(repair.Orders)} orders written as changes, {Number(repair.NotRepairable)} that no change can mend or that wait behind a parked one, "
                + $"{Number(repair.StillChanging)} left alone because they were changing.");
            if (repair.NotLoaded > 0)
            {
                console.WriteLine(
                    $"{Number(repair.NotLoaded)} of the repair's files were not loaded when the deadline passed, so what they make of the warehouse is not known. Is the "
                    + "loader running (status)? Run reconcile again when it has loaded them, or give a longer --deadline.");
            }
        }

        PrintDifferences("differ", certificate.Differences);
        PrintDifferences("kept changing", certificate.StillChanging);
        console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{certificate.Cost.Seconds:0.0} s; read {certificate.Cost.TableBytes / 1e6:0.0} MB ({certificate.Cost.TableUnits:0} capacity units) of the table and "
            + $"{certificate.Cost.WarehouseBytes / 1e6:0.0} MB of the warehouse; peak memory {certificate.Cost.PeakMemoryBytes / 1e6:0} MB."));
        console.MarkupLine(certificate.Result switch
        {
            Verdict.Equal => "[green]equal[/]",
            Verdict.Different => "[red]different[/]",
            _ => "[yellow]could not tell[/]",
        });

        void PrintDifferences(string what, Differences differences)
        {
            if (differences.Total == 0)
            {
                return;
            }

            console.WriteLine($"{Number(differences.Total)} orders {what}: {string.Join(", ", differences.ByKind.Select(kind => $"{Number(kind.Value)} {Name(kind.Key)}"))}");
            var orders = new Table().Border(TableBorder.Simple).AddColumns("order", "how", "table", "warehouse", "");
            foreach (var one in differences.Listed.Take(OrdersShown))
            {
                orders.AddRow(
                    Markup.Escape(one.OrderId), Name(one.Kind), Version(one.TableVersion), Version(one.WarehouseVersion),
                    Markup.Escape(string.Join("; ", Details(one))));
            }

            console.Write(orders);
            if (differences.Total > OrdersShown)
            {
                console.WriteLine($"… and {Number(differences.Total - OrdersShown)} more; the certificate (--certificate, --json) names {Number(differences.Listed.Count)}.");
            }
        }

        static IEnumerable<string> Details(Difference one)
        {
            if (one.Fields is { } fields)
            {
                yield return string.Join(", ", fields);
            }

            if (one.Reason is { } reason)
            {
                yield return reason;
            }

            if (one.Rows is { } rows)
            {
                yield return $"{rows} rows";
            }

            if (one.ParkedIn is { } parked)
            {
                yield return $"waits behind {string.Join(", ", parked)}";
            }
        }

        static string Version(long? version) => version is { } given ? $"v{given}" : "–";
        static string Name(DifferenceKind kind) => Certificate.NameOf(kind);
        static string Number(long number) => number.ToString("N0", CultureInfo.InvariantCulture);
        static string Span(DateTimeOffset from, DateTimeOffset to) => string.Create(
            CultureInfo.InvariantCulture, $"{from.UtcDateTime:yyyy-MM-dd HH:mm:ss} to {to.UtcDateTime:HH:mm:ss}");
    }
}
