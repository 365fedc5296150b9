using System.Collections.Concurrent;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>
/// A connection over which a function's process talks to the Runtime API. When the process is killed, the kernel
/// closes it at once; but a live client may close it too. The rule that tells them apart:
/// <list type="bullet">
/// <item>The client is known to keep its connections: it is Lambda's .NET client, or this connection has carried a second
/// request. (A shell script with one curl per call closes every connection at once, also beside other processes of the
/// same function.)</item>
/// <item>The connection was idle for less than <see cref="ClientIdleMin"/>. (.NET's pool closes connections that were
/// idle for 60 s, others later.)</item>
/// </list>
/// Where both hold, a closed connection is a process that is gone, and its invocation has failed. Otherwise it is a
/// hint, and the invocation's deadline decides.
/// </summary>
public sealed class RuntimeConnection
{
    private static readonly TimeSpan ClientIdleMin = TimeSpan.FromSeconds(55);

    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<Guid, Action<bool>> _onClosed = new();
    private volatile bool _isKept;
    private volatile bool _closed;
    private long _lastUsed;

    /// <param name="isKept">Whether its client is known to keep it for more than one request.</param>
    /// <param name="time">Measures how long it is idle.</param>
    internal RuntimeConnection(bool isKept, TimeProvider time)
    {
        _isKept = isKept;
        _time = time;
        Used();
    }

    /// <summary>
    /// Calls back once when the connection closes, with whether a live client may have closed it; at once if it is closed.
    /// </summary>
    internal IDisposable OnClosed(Action<bool> closed)
    {
        var id = Guid.NewGuid();
        _onClosed[id] = closed;
        if (_closed && _onClosed.TryRemove(id, out _))
        {
            closed(MayBeTheClient);
        }

        return new Registration(() => _onClosed.TryRemove(id, out _));
    }

    /// <summary>It carries a request after its first.</summary>
    internal void UsedAgain()
    {
        _isKept = true;
        Used();
    }

    internal void Used() => Volatile.Write(ref _lastUsed, _time.GetTimestamp());

    internal void Close()
    {
        _closed = true;
        var mayBeTheClient = MayBeTheClient;
        foreach (var id in _onClosed.Keys)
        {
            if (_onClosed.TryRemove(id, out var closed))
            {
                closed(mayBeTheClient);
            }
        }
    }

    private bool MayBeTheClient => !_isKept || _time.GetElapsedTime(Volatile.Read(ref _lastUsed)) >= ClientIdleMin;

    private sealed class Registration(Action remove) : IDisposable
    {
        public void Dispose() => remove();
    }
}

/// <summary>The connections of one function's processes.</summary>
public sealed class FunctionClient(TimeProvider time)
{
    private readonly ConcurrentDictionary<string, RuntimeConnection> _connections = new();

    /// <summary>The connection of a request to this function's Runtime API.</summary>
    public RuntimeConnection Of(HttpContext context)
    {
        var id = context.Connection.Id;
        if (_connections.TryGetValue(id, out var known))
        {
            known.UsedAgain();
            return known;
        }

        var isDotnet = context.Request.Headers.UserAgent.ToString().StartsWith("aws-lambda-dotnet/", StringComparison.Ordinal);
        var connection = new RuntimeConnection(isDotnet, time);
        _connections[id] = connection;
        var lifetime = context.Features.GetRequiredFeature<IConnectionLifetimeFeature>();
        lifetime.ConnectionClosed.Register(() =>
        {
            _connections.TryRemove(id, out _);
            connection.Close();
        });
        return connection;
    }
}
