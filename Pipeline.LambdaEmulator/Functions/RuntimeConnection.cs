using System.Collections.Concurrent;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>
/// A connection over which a function's process talks to the Runtime API. When the process is killed, the kernel
/// closes it at once; but a live client may close it too. The rule that tells them apart:
/// <list type="bullet">
/// <item>The client is known to keep its connections: it is Lambda's .NET client, or some connection of this function
/// has carried a second request. (A shell script with one curl per call closes every connection at once.)</item>
/// <item>The connection was idle for less than <see cref="ClientIdleMin"/>. (.NET's pool closes connections that were
/// idle for 60 s, others later.)</item>
/// </list>
/// Where both hold, a closed connection is a process that is gone, and its invocation has failed. Otherwise it is a
/// hint, and the invocation's deadline decides.
/// </summary>
public sealed class RuntimeConnection
{
    private static readonly TimeSpan ClientIdleMin = TimeSpan.FromSeconds(55);

    private readonly FunctionClient _client;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<Guid, Action<bool>> _onClosed = new();
    private DateTimeOffset _lastUsed;
    private bool _closed;

    internal RuntimeConnection(FunctionClient client, TimeProvider time)
    {
        _client = client;
        _time = time;
        _lastUsed = time.GetUtcNow();
    }

    /// <summary>
    /// Calls back once when the connection closes, with whether a live client may have closed it; at once if it is closed.
    /// </summary>
    internal IDisposable OnClosed(Action<bool> closed)
    {
        var id = Guid.NewGuid();
        _onClosed[id] = closed;
        if (Volatile.Read(ref _closed) && _onClosed.TryRemove(id, out _))
        {
            closed(MayBeTheClient);
        }

        return new Registration(() => _onClosed.TryRemove(id, out _));
    }

    internal void Used() => _lastUsed = _time.GetUtcNow();

    internal void Close()
    {
        Volatile.Write(ref _closed, true);
        var mayBeTheClient = MayBeTheClient;
        foreach (var id in _onClosed.Keys)
        {
            if (_onClosed.TryRemove(id, out var closed))
            {
                closed(mayBeTheClient);
            }
        }
    }

    private bool MayBeTheClient => !_client.KeepsConnections || _time.GetUtcNow() - _lastUsed >= ClientIdleMin;

    private sealed class Registration(Action remove) : IDisposable
    {
        public void Dispose() => remove();
    }
}

/// <summary>The connections of one function's processes.</summary>
public sealed class FunctionClient(TimeProvider time)
{
    private readonly ConcurrentDictionary<string, RuntimeConnection> _connections = new();

    /// <summary>Whether its processes use a connection for more than one request.</summary>
    internal bool KeepsConnections { get; private set; }

    /// <summary>The connection of a request to this function's Runtime API.</summary>
    public RuntimeConnection Of(HttpContext context)
    {
        var id = context.Connection.Id;
        if (_connections.TryGetValue(id, out var known))
        {
            KeepsConnections = true;
            known.Used();
            return known;
        }

        if (context.Request.Headers.UserAgent.ToString().StartsWith("aws-lambda-dotnet/", StringComparison.Ordinal))
        {
            KeepsConnections = true;
        }

        var connection = new RuntimeConnection(this, time);
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
