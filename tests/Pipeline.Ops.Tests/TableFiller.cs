using System.Diagnostics;
using System.Globalization;
using Amazon.DynamoDBv2.Model;
using Pipeline.Ops.Seed;

namespace Pipeline.Ops.Tests;

/// <summary>Fills a table with generated orders of some 1 KB, as fast as BatchWriteItem goes and past the API: there is no stream behind it.</summary>
internal sealed class TableFiller(World world)
{
    private const int BatchItems = 25;
    private const int Parallelism = 8;

    public static string OrderId(int seed, int index) => string.Create(CultureInfo.InvariantCulture, $"gen-{seed}-{index:D7}");

    /// <returns>How long it took.</returns>
    public async Task<TimeSpan> FillAsync(int orders, int seed, CancellationToken cancellationToken)
    {
        // To make up a million people takes longer than to write them: a thousand take turns.
        var planned = GeneratedPlan.Of(1_000, seed).Select(order => order.Order).ToList();
        var watch = Stopwatch.StartNew();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, orders).Chunk(BatchItems),
            new ParallelOptions { MaxDegreeOfParallelism = Parallelism, CancellationToken = cancellationToken },
            async (indexes, ct) =>
            {
                var requests = indexes.Select(index => new WriteRequest(new PutRequest(
                    Orders.Item(planned[index % planned.Count], OrderId(seed, index), 1 + (index % 5))))).ToList();
                while (requests.Count > 0)
                {
                    var answer = await world.Dynamo.BatchWriteItemAsync(new BatchWriteItemRequest(new Dictionary<string, List<WriteRequest>> { [world.Table] = requests }), ct);
                    requests = answer.UnprocessedItems?.GetValueOrDefault(world.Table) ?? [];
                }
            });
        return watch.Elapsed;
    }
}
