using Pipeline.Loader;

namespace Pipeline.Ops.Tests;

/// <summary>The bucket, with something happening before a GET, and before or behind a PUT.</summary>
internal sealed class HookedObjects(IObjectStore inner) : IObjectStore
{
    public Func<string, CancellationToken, Task> BeforeGet { get; init; } = (_, _) => Task.CompletedTask;
    public Func<string, Task> BeforePut { get; init; } = _ => Task.CompletedTask;
    public Func<string, Task> AfterPut { get; init; } = _ => Task.CompletedTask;

    public Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken) => inner.ListAsync(prefix, startAfter, cancellationToken);

    public async Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken)
    {
        await BeforeGet(key, cancellationToken);
        return await inner.GetAsync(key, cancellationToken);
    }

    public async Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
    {
        await BeforePut(key);
        await inner.PutAsync(key, content, contentType, cancellationToken);
        await AfterPut(key);
    }

    public Task DeleteAsync(string key, CancellationToken cancellationToken) => inner.DeleteAsync(key, cancellationToken);
}
