using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops.Reconcile;
using Spectre.Console;

namespace Pipeline.Ops.Quarantine;

/// <summary><c>quarantine list|show|redrive|discard</c>: the command line around <see cref="QuarantineDesk"/>.</summary>
internal static class QuarantineCommand
{
    // For a request, of which there may be many: a healthy store answers in milliseconds, and a person waits.
    private static readonly TimeSpan RequestTimeout = TimeSpan.FromSeconds(10);
    private const int Retries = 2;

    // More fits on no screen; --json has all of it.
    private const int ReasonShown = 200;

    public static Command Create() => new(
        "quarantine",
        "Changes that could not be decoded or loaded: each is parked in the bucket with its whole payload and the reason, and later changes of "
        + "its order wait behind it. Mend the cause and `redrive`, or `discard` what does not belong into the warehouse.")
    {
        CreateList(),
        CreateShow(),
        CreateRedrive(),
        CreateDiscard(),
    };

    private static Command CreateList()
    {
        var json = Options.Json();
        var command = new Command(
            "list",
            "What is parked, by order and sequence number, and how many changes of the order wait behind it. Exit code 0; 2 when the bucket or the "
            + "warehouse could not be reached (without the warehouse the rest is shown).")
        {
            json,
        };
        SetAction(command, new Endpoints(), withWarehouse: true, async (desk, warehouse, parsed, cancellationToken) =>
        {
            var asJson = parsed.GetValue(json);
            var parked = await WithProgressAsync("objects", asJson, progress => desk.ListAsync((done, all) => progress(done, all), cancellationToken));
            var problem = warehouse is null ? "there is no connection string, give one with --warehouse" : null;
            try
            {
                parked = warehouse is null ? parked : await CountWaitingAsync(parked, warehouse, cancellationToken);
            }
            catch (Exception e) when (e is NpgsqlException or OperatorException)
            {
                problem = e.Message.TrimEnd('.');
            }

            Print(parked, Terminal.Create(asJson));
            if (asJson)
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(parked, QuarantineDeskJsonContext.Default.IReadOnlyListParkedObject));
            }

            if (problem is not null)
            {
                await Console.Error.WriteLineAsync($"How many changes wait is not known: {problem}.");
            }

            return problem is null ? 0 : 2;
        });
        return command;
    }

    private static Command CreateShow()
    {
        var key = Key();
        var command = new Command(
            "show",
            "Print one object as it is: the whole payload, with name, e-mail and document of the customer in protected form. Exit code 0, 1 when there is no such object, 2 when the bucket "
            + "could not be reached.")
        {
            key,
        };
        MustBeInQuarantine(command, key);
        SetAction(command, new Endpoints(), withWarehouse: false, async (desk, _, parsed, cancellationToken) =>
        {
            if (await desk.ShowAsync(parsed.GetRequiredValue(key), cancellationToken) is not { } content)
            {
                return await NoSuchObjectAsync(parsed.GetRequiredValue(key));
            }

            await Console.Error.WriteLineAsync("This is the payload as it was written, personal data protected where it is known to be: do not pass it on.");
            Console.Out.WriteLine(Encoding.UTF8.GetString(content));
            return 0;
        });
        return command;
    }

    private static Command CreateRedrive()
    {
        var key = Key();
        key.Arity = ArgumentArity.ZeroOrOne;
        var all = new Option<bool>("--all") { Description = "Redrive everything that is parked, the changes of an order in their order." };
        var json = Options.Json();
        var command = new Command(
            "redrive",
            "Bring parked changes back when the cause is mended: each is decoded again and written as a change file. It leaves the quarantine when the "
            + "loader has it in the warehouse, and what waited behind it follows; that takes a minute at most. What is refused again stays, with the "
            + "new reason. May be repeated. Exit code 0 when all are written, 1 when some are not (named), 2 when the bucket could not be reached.")
        {
            key, all, json,
        };
        MustBeInQuarantine(command, key);
        command.Validators.Add(result =>
        {
            if (result.GetValue(all) == (result.GetValue(key) is not null))
            {
                result.AddError("Say what to redrive: the KEY of one object, or --all.");
            }
        });
        var endpoints = new Endpoints();
        endpoints.AddTo(command, endpoints.PersonalDataKey);
        SetAction(command, endpoints, withWarehouse: false, async (desk, _, parsed, cancellationToken) =>
        {
            using var protector = endpoints.FindPersonalData(parsed);
            var asJson = parsed.GetValue(json);
            IReadOnlyList<string> keys = parsed.GetValue(key) is { } one
                ? [one]
                : [.. (await WithProgressAsync("objects", asJson, progress => desk.ListAsync((done, of) => progress(done, of), cancellationToken))).Select(p => p.Key)];
            var results = await WithProgressAsync("changes", asJson, progress => desk.RedriveAsync(keys, protector, done => progress(done, keys.Count), cancellationToken));

            var writer = Terminal.Create(asJson).Profile.Out.Writer;
            foreach (var failed in results.Where(r => r.Result != RedriveResult.Written))
            {
                writer.WriteLine($"{failed.Key}: {failed.Reason}");
            }

            var written = results.Count(r => r.Result == RedriveResult.Written);
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{written} of {results.Count} are written as change files; the loader takes them from there."));
            if (asJson)
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(results, QuarantineDeskJsonContext.Default.IReadOnlyListRedriven));
            }

            // What was discarded may come back with its batch. Nobody asked for that one by name when all are redriven.
            return results.All(r => r.Result == RedriveResult.Written || (r.Result == RedriveResult.Discarded && parsed.GetValue(key) is null)) ? 0 : 1;
        });
        return command;
    }

    private static Command CreateDiscard()
    {
        var key = Key();
        var reason = new Option<string>("--reason") { Description = "Why the change does not belong into the warehouse.", HelpName = "TEXT", Required = true };
        reason.Validators.Add(result =>
        {
            if (string.IsNullOrWhiteSpace(result.GetValueOrDefault<string>()))
            {
                result.AddError("--reason must say why.");
            }
        });
        var command = new Command(
            "discard",
            $"Take a change out of the pipeline for good. Its payload stays under {Names.DiscardedPrefix} with the reason, the time and your user name; what "
            + "waited behind it follows within seconds. It stays out also when its file is replayed or the warehouse is rebuilt. Exit code 0 when it is "
            + "discarded (also when it was before), 1 when there is no such object, 2 when the bucket could not be reached.")
        {
            key, reason,
        };
        MustBeInQuarantine(command, key);
        SetAction(command, new Endpoints(), withWarehouse: false, async (desk, _, parsed, cancellationToken) =>
        {
            var discarded = parsed.GetRequiredValue(key);
            switch (await desk.DiscardAsync(discarded, parsed.GetRequiredValue(reason).Trim(), Environment.UserName, cancellationToken))
            {
                case DiscardResult.NotThere:
                    return await NoSuchObjectAsync(discarded);
                case DiscardResult.AlreadyDiscarded:
                    Console.Out.WriteLine($"It was discarded before: {ObjectKeys.Discarded(discarded)}");
                    return 0;
                default:
                    Console.Out.WriteLine($"Discarded: {ObjectKeys.Discarded(discarded)}");
                    return 0;
            }
        });
        return command;
    }

    private static Argument<string> Key() => new("KEY") { Description = $"The object's key, as `list` shows it: {Names.QuarantinePrefix}…" };

    // Of the command: the library does not call the validators of an argument that may be left out.
    private static void MustBeInQuarantine(Command command, Argument<string> key) => command.Validators.Add(result =>
    {
        if (result.GetValue(key) is { } text && !text.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal))
        {
            result.AddError($"KEY is that of an object in quarantine and begins with {Names.QuarantinePrefix}; {text} does not.");
        }
    });

    private static void SetAction(
        Command command, Endpoints endpoints, bool withWarehouse, Func<QuarantineDesk, string?, ParseResult, CancellationToken, Task<int>> action)
    {
        endpoints.AddTo(command, [endpoints.Aws, endpoints.S3, endpoints.Bucket, .. withWarehouse ? [endpoints.Warehouse] : Array.Empty<Option>()]);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var s3 = endpoints.S3Of(parsed, RequestTimeout, Retries);
            var desk = new QuarantineDesk(new S3ObjectStore(s3, endpoints.BucketOf(parsed)), TimeProvider.System);
            try
            {
                return await action(desk, withWarehouse ? endpoints.WarehouseOf(parsed) : null, parsed, cancellationToken);
            }
            catch (Exception e) when (e is ObjectStoreException or ObjectUnreadableException)
            {
                await Console.Error.WriteLineAsync($"{e.Message.TrimEnd('.')}. The command may be given again.");
                return 2;
            }
            catch (OperatorException e)
            {
                await Console.Error.WriteLineAsync(e.Message);
                return 2;
            }
        });
    }

    private static async Task<int> NoSuchObjectAsync(string key)
    {
        await Console.Error.WriteLineAsync($"There is no {key}: it was never there, or is loaded or discarded by now. `quarantine list` shows what is parked.");
        return 1;
    }

    /// <summary>How many changes of its order wait behind each.</summary>
    internal static async Task<IReadOnlyList<ParkedObject>> CountWaitingAsync(
        IReadOnlyList<ParkedObject> parked, string connectionString, CancellationToken cancellationToken)
    {
        await using var warehouse = new WarehouseReader(connectionString);
        var waiting = await warehouse.WaitingAsync([.. parked.Select(one => one.OrderId).OfType<string>().Distinct(StringComparer.Ordinal)], cancellationToken);
        return [.. parked.Select(one => one with
        {
            Waiting = one is { OrderId: { } orderId, SequenceNumber: { } sequence }
                ? waiting[orderId].LongCount(later => string.CompareOrdinal(later.ToString(), sequence) > 0)
                : 0,
        })];
    }

    /// <summary>Three lines each: a table would break the keys, which are there to be copied.</summary>
    private static void Print(IReadOnlyList<ParkedObject> parked, IAnsiConsole console)
    {
        var writer = console.Profile.Out.Writer;
        var now = DateTimeOffset.UtcNow;
        foreach (var one in parked)
        {
            writer.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"order {one.OrderId ?? "(cannot be read)"}, change {one.SequenceNumber?.TrimStart('0') ?? "(cannot be read)"}: attempt {one.Attempt}, "
                + $"{(one.ChangedAt is { } at ? $"{Age(now - at)} old, " : "")}{one.Waiting?.ToString(CultureInfo.InvariantCulture) ?? "?"} waiting behind it"));
            writer.WriteLine($"    {(one.Reason.Length > ReasonShown ? one.Reason[..ReasonShown] + "…" : one.Reason)}");
            writer.WriteLine($"    {one.Key}");
        }

        writer.WriteLine(parked.Count == 0 ? "Nothing is parked." : string.Create(CultureInfo.InvariantCulture, $"{parked.Count} parked."));
    }

    private static string Age(TimeSpan age) => age switch
    {
        { TotalMinutes: < 1 } => string.Create(CultureInfo.InvariantCulture, $"{Math.Max(age.TotalSeconds, 0):0} s"),
        { TotalHours: < 1 } => string.Create(CultureInfo.InvariantCulture, $"{age.TotalMinutes:0} min"),
        { TotalDays: < 1 } => string.Create(CultureInfo.InvariantCulture, $"{age.TotalHours:0.0} h"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{age.TotalDays:0.0} d"),
    };

    /// <summary>A bar for a person at a terminal, and nothing for a file or a pipe: the result is there in seconds.</summary>
    private static async Task<T> WithProgressAsync<T>(string what, bool forPeopleOnly, Func<Action<int, int>, Task<T>> work)
    {
        var console = Terminal.Create(forPeopleOnly);
        if (!console.Profile.Capabilities.Interactive)
        {
            return await work((_, _) => { });
        }

        return await console.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .StartAsync(async progress =>
            {
                var bar = progress.AddTask(what, autoStart: true, maxValue: 1);
                return await work((done, all) =>
                {
                    bar.MaxValue = Math.Max(all, 1);
                    bar.Value = done;
                });
            });
    }
}
