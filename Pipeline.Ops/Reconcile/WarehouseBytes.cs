using System.Diagnostics.Metrics;

namespace Pipeline.Ops.Reconcile;

/// <summary>Bytes that came from the warehouse while this listens, by Npgsql's own count.</summary>
internal sealed class WarehouseBytes : IDisposable
{
    private readonly MeterListener _listener = new();
    private long _read;

    public WarehouseBytes()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument is { Meter.Name: "Npgsql", Name: "db.client.operation.npgsql.bytes_read" })
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((_, bytes, _, _) => Interlocked.Add(ref _read, bytes));
        _listener.Start();
    }

    public long Read => Interlocked.Read(ref _read);

    public void Dispose() => _listener.Dispose();
}
