using System.Buffers.Binary;
using System.Text;
using Pipeline.Core;

namespace Pipeline.Ops.Reconcile;

/// <summary>An order of the table as the scan saw it.</summary>
/// <param name="OrderId">The partition key.</param>
/// <param name="Bucket">Of <see cref="OrderDigest"/>.</param>
/// <param name="Version">0 when it cannot be decoded.</param>
/// <param name="Hash">Null when it cannot be decoded.</param>
internal readonly record struct ScannedOrder(string OrderId, int Bucket, long Version, UInt128? Hash);

/// <summary>
/// What the scan saw, on disk, so that the memory needed does not grow with the table: some 60 bytes an order in files
/// that go with this object, or the process. Buckets that differ are read back from it.
/// </summary>
internal sealed class Spool : IDisposable
{
    /// <summary>So many files, each with the buckets of one range, so that reading some buckets reads little else.</summary>
    private const int Files = 64;
    private const int BucketsPerFile = OrderDigest.Buckets / Files;
    private const int BufferBytes = 16 << 10;

    /// <summary>Length of the id, bucket, version, whether there is a hash, the hash.</summary>
    private const int HeadBytes = 2 + 2 + 8 + 1 + 16;

    private readonly FileStream[] _files;

    /// <param name="folder">Where the files are made.</param>
    public Spool(string folder) => _files = [.. Enumerable.Range(0, Files).Select(_ => TemporaryFile.Create(folder, "reconcile", BufferBytes))];

    /// <summary>Takes an order; several segments write at once.</summary>
    public void Write(ScannedOrder order)
    {
        Span<byte> head = stackalloc byte[HeadBytes];
        var id = Encoding.UTF8.GetBytes(order.OrderId);
        BinaryPrimitives.WriteUInt16LittleEndian(head, (ushort)id.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(head[2..], (ushort)order.Bucket);
        BinaryPrimitives.WriteInt64LittleEndian(head[4..], order.Version);
        head[12] = order.Hash is null ? (byte)0 : (byte)1;
        BinaryPrimitives.WriteUInt128LittleEndian(head[13..], order.Hash ?? default);
        var file = _files[order.Bucket / BucketsPerFile];
        lock (file)
        {
            file.Write(head);
            file.Write(id);
        }
    }

    /// <summary>
    /// The orders of some buckets, in the order of the buckets, with those that have none. Buckets are read together as long as
    /// they have at most <paramref name="ordersMax"/> orders: that, or the largest bucket, is what is in memory at once.
    /// </summary>
    /// <param name="buckets">In rising order.</param>
    /// <param name="countOf">How many orders a bucket has.</param>
    /// <param name="ordersMax">At least 1.</param>
    public IEnumerable<(int Bucket, IReadOnlyList<ScannedOrder> Orders)> Read(IReadOnlyList<int> buckets, Func<int, long> countOf, int ordersMax)
    {
        for (var from = 0; from < buckets.Count;)
        {
            var to = from + 1;
            for (var orders = countOf(buckets[from]);
                 to < buckets.Count && buckets[to] / BucketsPerFile == buckets[from] / BucketsPerFile && (orders += countOf(buckets[to])) <= ordersMax;
                 to++)
            {
            }

            var wanted = Enumerable.Range(from, to - from).ToDictionary(place => buckets[place], _ => new List<ScannedOrder>());
            foreach (var order in ReadFile(buckets[from] / BucketsPerFile))
            {
                if (wanted.TryGetValue(order.Bucket, out var orders))
                {
                    orders.Add(order);
                }
            }

            for (; from < to; from++)
            {
                yield return (buckets[from], wanted[buckets[from]]);
            }
        }
    }

    private IEnumerable<ScannedOrder> ReadFile(int number)
    {
        var file = _files[number];
        file.Seek(0, SeekOrigin.Begin);
        var head = new byte[HeadBytes];
        var id = new byte[ushort.MaxValue];
        while (file.ReadAtLeast(head, HeadBytes, throwOnEndOfStream: false) is var read && read > 0)
        {
            if (read < HeadBytes)
            {
                throw new IOException($"{file.Name} ends in the middle of an order.");
            }

            var length = BinaryPrimitives.ReadUInt16LittleEndian(head);
            file.ReadExactly(id, 0, length);
            yield return new ScannedOrder(
                Encoding.UTF8.GetString(id, 0, length),
                BinaryPrimitives.ReadUInt16LittleEndian(head.AsSpan(2)),
                BinaryPrimitives.ReadInt64LittleEndian(head.AsSpan(4)),
                head[12] == 0 ? null : BinaryPrimitives.ReadUInt128LittleEndian(head.AsSpan(13)));
        }
    }

    public void Dispose()
    {
        foreach (var file in _files)
        {
            file.Dispose();
        }
    }
}
