using System.Text;
using Pipeline.Core;

namespace Pipeline.Ops.Reconcile;

/// <summary>An order that differed when it was last looked at.</summary>
/// <param name="OrderId">The partition key.</param>
/// <param name="Table">What the table had.</param>
/// <param name="TableSince">Since when the table is known to have had just that.</param>
/// <param name="TableDigest">What it counts for in the digest of the table.</param>
/// <param name="WarehouseDigest">What its rows count for in the digest of the warehouse.</param>
internal readonly record struct Candidate(
    string OrderId, OrderState? Table, DateTimeOffset TableSince, DigestSum TableDigest, DigestSum WarehouseDigest);

/// <summary>Orders to look at again, on disk: all of them may differ. Written once from its beginning, then read.</summary>
internal sealed class Candidates : IDisposable
{
    private readonly FileStream _file;
    private readonly BinaryWriter _writer;

    public Candidates(string parent)
    {
        _file = TemporaryFile.Create(parent, "reconcile", 64 << 10);
        _writer = new BinaryWriter(_file, Encoding.UTF8, leaveOpen: true);
    }

    public long Count { get; private set; }

    public void Add(Candidate candidate)
    {
        _writer.Write(candidate.OrderId);
        _writer.Write(candidate.Table is not null);
        _writer.Write(candidate.Table?.Version ?? 0);
        Write(candidate.Table?.Hash ?? default);
        _writer.Write(candidate.TableSince.UtcTicks);
        Write(candidate.TableDigest);
        Write(candidate.WarehouseDigest);
        Count++;
    }

    /// <summary>All of them, in groups of at most <paramref name="size"/>.</summary>
    public IEnumerable<Candidate[]> InGroupsOf(int size)
    {
        _writer.Flush();
        _file.Seek(0, SeekOrigin.Begin);
        using var reader = new BinaryReader(_file, Encoding.UTF8, leaveOpen: true);
        foreach (var group in Read(reader).Chunk(size))
        {
            yield return group;
        }
    }

    private IEnumerable<Candidate> Read(BinaryReader reader)
    {
        for (long n = 0; n < Count; n++)
        {
            var orderId = reader.ReadString();
            var isThere = reader.ReadBoolean();
            var state = new OrderState(reader.ReadInt64(), ReadUInt128(reader));
            yield return new Candidate(
                orderId,
                isThere ? state : null,
                new DateTimeOffset(reader.ReadInt64(), TimeSpan.Zero),
                new DigestSum(reader.ReadInt64(), ReadUInt128(reader), ReadUInt128(reader)),
                new DigestSum(reader.ReadInt64(), ReadUInt128(reader), ReadUInt128(reader)));
        }
    }

    private void Write(DigestSum digest)
    {
        _writer.Write(digest.Count);
        Write(digest.High);
        Write(digest.Low);
    }

    private void Write(UInt128 value)
    {
        _writer.Write((ulong)(value >> 64));
        _writer.Write((ulong)value);
    }

    private static UInt128 ReadUInt128(BinaryReader reader) => new(reader.ReadUInt64(), reader.ReadUInt64());

    public void Dispose()
    {
        _writer.Dispose();
        _file.Dispose();
    }
}
