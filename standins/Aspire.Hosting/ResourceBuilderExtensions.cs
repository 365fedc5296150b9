using Aspire.Hosting.ApplicationModel;

namespace Aspire.Hosting;

public static class ResourceBuilderExtensions
{
    public static IResourceBuilder<ProjectResource> AddProject(
        this IDistributedApplicationBuilder builder, string name, string projectPath) =>
        builder.Add(new ProjectResource(name, Path.GetFullPath(projectPath, builder.AppHostDirectory)));

    public static IResourceBuilder<ExecutableResource> AddExecutable(
        this IDistributedApplicationBuilder builder, string name, string command, string workingDirectory, params string[]? args) =>
        builder.Add(new ExecutableResource(name, command, Path.GetFullPath(workingDirectory, builder.AppHostDirectory)))
            .WithArgs(args ?? []);

    public static IResourceBuilder<ConnectionStringResource> AddConnectionString(
        this IDistributedApplicationBuilder builder, string name, ReferenceExpression connectionStringExpression) =>
        builder.Add(new ConnectionStringResource(name, connectionStringExpression));

    public static IResourceBuilder<T> WithEnvironment<T>(this IResourceBuilder<T> builder, string name, string? value)
        where T : IResourceWithEnvironment => builder.Environment(name, value ?? "");

    public static IResourceBuilder<T> WithEnvironment<T>(
        this IResourceBuilder<T> builder, string name, in ReferenceExpression.ExpressionInterpolatedStringHandler value)
        where T : IResourceWithEnvironment => builder.Environment(name, ReferenceExpression.Create(value));

    public static IResourceBuilder<T> WithEnvironment<T>(this IResourceBuilder<T> builder, string name, ReferenceExpression value)
        where T : IResourceWithEnvironment => builder.Environment(name, value);

    public static IResourceBuilder<T> WithEnvironment<T>(this IResourceBuilder<T> builder, string name, EndpointReference endpointReference)
        where T : IResourceWithEnvironment => builder.Environment(name, endpointReference);

    public static IResourceBuilder<T> WithArgs<T>(this IResourceBuilder<T> builder, params string[] args)
        where T : IResourceWithArgs => builder.With(process => process.Arguments.AddRange(args));

    /// <summary>The process itself listens on <paramref name="port"/>, a free one when it is null.</summary>
    public static IResourceBuilder<T> WithHttpEndpoint<T>(
        this IResourceBuilder<T> builder, int? port = null, string? name = null, bool? isProxied = null)
        where T : IResourceWithEndpoints => builder.WithEndpoint(port, "http", name, isProxied);

    public static IResourceBuilder<T> WithEndpoint<T>(
        this IResourceBuilder<T> builder, int? port = null, string? scheme = null, string? name = null, bool? isProxied = null)
        where T : IResourceWithEndpoints =>
        isProxied == true
            ? throw new NotSupportedException("The stand-in has no proxy: the process listens on the port that others use.")
            : builder.With(process => process.Endpoints.Add(new Endpoint(name ?? scheme ?? "tcp", scheme ?? "tcp", port)));

    public static EndpointReference GetEndpoint<T>(this IResourceBuilder<T> builder, string name)
        where T : IResourceWithEndpoints => new(builder.Resource, name);

    public static IResourceBuilder<TDestination> WithReference<TDestination>(
        this IResourceBuilder<TDestination> builder, IResourceBuilder<IResourceWithConnectionString> source)
        where TDestination : IResourceWithEnvironment =>
        builder.Environment($"ConnectionStrings__{source.Resource.Name}", source.Resource.ConnectionStringExpression);

    /// <summary>Starts after the dependency is running and healthy and its OnResourceReady callbacks have ended.</summary>
    public static IResourceBuilder<T> WaitFor<T>(this IResourceBuilder<T> builder, IResourceBuilder<IResource> dependency)
        where T : IResourceWithWaitSupport => builder.With(process => process.WaitsFor.Add(dependency.Resource));

    public static IResourceBuilder<T> WithHttpHealthCheck<T>(
        this IResourceBuilder<T> builder, string? path = null, int? statusCode = null, string? endpointName = null)
        where T : IResourceWithEndpoints => builder.With(process =>
            process.HealthCheck = new HttpHealthCheck(new EndpointReference(process, endpointName ?? "http"), path ?? "/", statusCode ?? 200));

    public static IResourceBuilder<T> OnResourceReady<T>(
        this IResourceBuilder<T> builder, Func<T, ResourceReadyEvent, CancellationToken, Task> callback)
        where T : IResource =>
        builder.With(process => process.OnReady.Add((ready, cancellationToken) => callback(builder.Resource, ready, cancellationToken)));

    public static IResourceBuilder<T> WithCommand<T>(
        this IResourceBuilder<T> builder, string name, string displayName, Func<ExecuteCommandContext, Task<ExecuteCommandResult>> executeCommand,
        CommandOptions? commandOptions = null)
        where T : IResource => builder.With(process => process.Commands.Add(new Command(name, displayName, commandOptions ?? new(), executeCommand)));

    public static IResourceBuilder<T> WithParentRelationship<T>(this IResourceBuilder<T> builder, IResourceBuilder<IResource> parent)
        where T : IResource
    {
        ((Resource)(object)builder.Resource).Parent = parent.Resource;
        return builder;
    }

    private static IResourceBuilder<T> Add<T>(this IDistributedApplicationBuilder builder, T resource)
        where T : Resource => ((DistributedApplicationBuilder)builder).Add(resource);

    private static IResourceBuilder<T> Environment<T>(this IResourceBuilder<T> builder, string name, object value)
        where T : IResource => builder.With(process => process.Environment[name] = ReferenceExpression.Of(value));

    private static IResourceBuilder<T> With<T>(this IResourceBuilder<T> builder, Action<ProcessResource> change)
        where T : IResource
    {
        change((ProcessResource)(object)builder.Resource);
        return builder;
    }
}
