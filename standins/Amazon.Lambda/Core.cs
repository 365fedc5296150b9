using System.Globalization;
using System.Text;

// What this project uses of Amazon.Lambda.Core 3.2.0.
namespace Amazon.Lambda.Core;

public interface ILambdaContext
{
    string AwsRequestId { get; }
    IClientContext ClientContext { get; }
    string FunctionName { get; }
    string FunctionVersion { get; }
    ICognitoIdentity Identity { get; }
    string InvokedFunctionArn { get; }
    ILambdaLogger Logger { get; }
    string LogGroupName { get; }
    string LogStreamName { get; }
    int MemoryLimitInMB { get; }

    /// <summary>Time until the deadline of the invocation; negative once it has passed.</summary>
    TimeSpan RemainingTime { get; }
    string TenantId => string.Empty;
    string TraceId => string.Empty;
    ILambdaSerializer Serializer => null;
}

public interface IClientContext;

public interface ICognitoIdentity;

public interface ILambdaSerializer
{
    T Deserialize<T>(Stream requestStream);
    void Serialize<T>(T response, Stream responseStream);
}

public enum LogLevel
{
    Trace = 0,
    Debug = 1,
    Information = 2,
    Warning = 3,
    Error = 4,
    Critical = 5,
}

public interface ILambdaLogger
{
    void Log(string message);
    void LogLine(string message);
    void Log(string level, string message) => LogLine(message);
    void Log(LogLevel level, string message) => Log(level.ToString(), message);
    void LogInformation(string message) => Log(LogLevel.Information, message);
    void LogWarning(string message) => Log(LogLevel.Warning, message);
    void LogError(string message) => Log(LogLevel.Error, message);
    void Log(string level, string message, params object[] args) => Log(level, LogTemplate.Fill(message, args));

    void Log(string level, Exception exception, string message, params object[] args) =>
        Log(level, $"{LogTemplate.Fill(message, args)}\n{exception}");

    void Log(LogLevel level, string message, params object[] args) => Log(level.ToString(), message, args);
    void Log(LogLevel level, Exception exception, string message, params object[] args) => Log(level.ToString(), exception, message, args);
    void LogInformation(string message, params object[] args) => Log(LogLevel.Information, message, args);
    void LogInformation(Exception exception, string message, params object[] args) => Log(LogLevel.Information, exception, message, args);
    void LogWarning(string message, params object[] args) => Log(LogLevel.Warning, message, args);
    void LogWarning(Exception exception, string message, params object[] args) => Log(LogLevel.Warning, exception, message, args);
    void LogError(string message, params object[] args) => Log(LogLevel.Error, message, args);
    void LogError(Exception exception, string message, params object[] args) => Log(LogLevel.Error, exception, message, args);
}

/// <summary>The static logger: writes to standard output, which is a function's log.</summary>
public static class LambdaLogger
{
    public static void Log(string message) => Console.WriteLine(message);

    public static void Log(string level, string message, params object[] args) =>
        Console.WriteLine($"{level}: {LogTemplate.Fill(message, args)}");

    public static void Log(LogLevel level, string message, params object[] args) => Log(level.ToString(), message, args);

    public static void Log(string level, Exception exception, string message, params object[] args) =>
        Console.WriteLine($"{level}: {LogTemplate.Fill(message, args)}\n{exception}");

    public static void Log(LogLevel level, Exception exception, string message, params object[] args) =>
        Log(level.ToString(), exception, message, args);
}

/// <summary>Message templates as in Microsoft.Extensions.Logging: <c>{name}</c> places take the arguments in order.</summary>
internal static class LogTemplate
{
    public static string Fill(string template, object[] args)
    {
        if (args is null || args.Length == 0 || template is null)
        {
            return template;
        }

        var text = new StringBuilder(template.Length + 64);
        var argument = 0;
        for (var i = 0; i < template.Length; i++)
        {
            var c = template[i];
            if (c is '{' or '}' && i + 1 < template.Length && template[i + 1] == c)
            {
                text.Append(c);
                i++;
                continue;
            }

            var end = c == '{' ? template.IndexOf('}', i) : -1;
            if (end < 0 || argument >= args.Length)
            {
                text.Append(c);
                continue;
            }

            var colon = template.IndexOf(':', i, end - i);
            var format = colon < 0 ? null : template[(colon + 1)..end];
            var value = args[argument++];
            text.Append(value is IFormattable formattable ? formattable.ToString(format, CultureInfo.InvariantCulture) : value);
            i = end;
        }

        return text.ToString();
    }
}
