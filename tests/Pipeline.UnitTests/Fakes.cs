using System.Collections.Concurrent;
using System.Globalization;
using System.Text.RegularExpressions;
using Amazon.Lambda.Core;
using Pipeline.Core;
using Pipeline.Processor;

namespace Pipeline.UnitTests;

/// <summary>A bucket in memory that can fail a PUT before or after it takes effect.</summary>
internal sealed class MemoryObjects : IObjectWriter
{
    public ConcurrentDictionary<string, byte[]> Stored { get; } = new();
    public ConcurrentQueue<string> Puts { get; } = new();

    /// <summary>Called with the key before the object is stored.</summary>
    public Func<string, CancellationToken, Task> Before { get; set; } = (_, _) => Task.CompletedTask;

    /// <summary>Called with the key after the object is stored: what it throws is an answer that got lost.</summary>
    public Func<string, CancellationToken, Task> After { get; set; } = (_, _) => Task.CompletedTask;

    public async Task PutAsync(
        string key, ReadOnlyMemory<byte> content, string contentType, IReadOnlyDictionary<string, string> metadata, CancellationToken cancellationToken)
    {
        await Before(key, cancellationToken);
        Puts.Enqueue(key);
        Stored[key] = content.ToArray();
        await After(key, cancellationToken);
    }

    public static ObjectStoreException Unavailable() => new("503 Slow Down", new IOException());
}

/// <summary>A key for tests.</summary>
internal static class Protection
{
    public const string Key = "a key of the tests, which nobody else has";

    public static PersonalDataProtector Protector { get; } = new(Key);

    public static ValueTask<PersonalDataProtector> GetAsync(CancellationToken cancellationToken) => ValueTask.FromResult(Protector);
}

/// <summary>An invocation whose log can be read.</summary>
internal sealed class FakeInvocation : ILambdaContext, ILambdaLogger
{
    private readonly List<string> _lines = [];

    public string Log
    {
        get
        {
            lock (_lines)
            {
                return string.Join('\n', _lines);
            }
        }
    }

    public TimeSpan RemainingTime { get; init; } = TimeSpan.FromSeconds(30);
    public string AwsRequestId => "request-1";
    public ILambdaLogger Logger => this;
    public string FunctionName => "process_orders";
    public string FunctionVersion => "$LATEST";
    public string InvokedFunctionArn => "";
    public string LogGroupName => "";
    public string LogStreamName => "";
    public int MemoryLimitInMB => 512;
    public IClientContext ClientContext => null!;
    public ICognitoIdentity Identity => null!;

    void ILambdaLogger.Log(string message) => LogLine(message);

    // The interface's own form of this one calls itself: every logger has to bring it.
    void ILambdaLogger.Log(string level, string message, params object[] args)
    {
        var next = 0;
        LogLine(Regex.Replace(message, @"\{\w+\}", _ => Convert.ToString(args[next++], CultureInfo.InvariantCulture) ?? ""));
    }

    public void LogLine(string message)
    {
        lock (_lines)
        {
            _lines.Add(message);
        }
    }
}
