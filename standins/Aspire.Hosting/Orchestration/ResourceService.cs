using System.Threading.Channels;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.DashboardProtocol;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Enum = System.Enum;

namespace Aspire.Hosting.Orchestration;

/// <summary>The resources in the Aspire dashboard's own protocol.</summary>
internal sealed class ResourceService(Orchestrator orchestrator, ResourceServer server) : DashboardProtocol.DashboardService.DashboardServiceBase
{
    private static readonly (string Name, string Icon)[] Commands = [("start", "Play"), ("stop", "Stop"), ("restart", "ArrowCounterclockwise")];

    public override Task<ApplicationInformationResponse> GetApplicationInformation(ApplicationInformationRequest request, ServerCallContext context)
    {
        Authorize(context);
        return Task.FromResult(new ApplicationInformationResponse { ApplicationName = System.Reflection.Assembly.GetEntryAssembly()!.GetName().Name });
    }

    public override async Task WatchResources(
        WatchResourcesRequest request, IServerStreamWriter<WatchResourcesUpdate> responseStream, ServerCallContext context)
    {
        Authorize(context);
        // A signal, not a queue: a dashboard that is slow gets the newest state, and nothing piles up.
        var signal = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
        void OnChanged() => signal.Writer.TryWrite(true);
        orchestrator.Changed += OnChanged;
        try
        {
            var initial = new InitialResourceData();
            initial.Resources.AddRange(await AllAsync(context.CancellationToken));
            await responseStream.WriteAsync(new WatchResourcesUpdate { InitialData = initial }, context.CancellationToken);
            await foreach (var _ in signal.Reader.ReadAllAsync(context.CancellationToken))
            {
                var changes = new WatchResourcesChanges();
                changes.Value.AddRange((await AllAsync(context.CancellationToken)).Select(resource => new WatchResourcesChange { Upsert = resource }));
                await responseStream.WriteAsync(new WatchResourcesUpdate { Changes = changes }, context.CancellationToken);
            }
        }
        finally
        {
            orchestrator.Changed -= OnChanged;
        }
    }

    public override async Task WatchResourceConsoleLogs(
        WatchResourceConsoleLogsRequest request, IServerStreamWriter<WatchResourceConsoleLogsUpdate> responseStream, ServerCallContext context)
    {
        Authorize(context);
        if (orchestrator.Find(request.ResourceName) is not { } run)
        {
            return;
        }

        // Closing the page cancels the call, and the exception of that ends it here.
        await foreach (var lines in run.Log.ReadAsync(follow: !request.SuppressFollow, context.CancellationToken))
        {
            var update = new WatchResourceConsoleLogsUpdate();
            update.LogLines.AddRange(lines.Select(line => new ConsoleLogLine { LineNumber = line.Number, Text = line.Text, IsStdErr = line.IsError }));
            await responseStream.WriteAsync(update, context.CancellationToken);
        }
    }

    public override async Task<ResourceCommandResponse> ExecuteResourceCommand(ResourceCommandRequest request, ServerCallContext context)
    {
        Authorize(context);
        var result = orchestrator.Find(request.ResourceName) is { } run
            ? await ResourceServer.ExecuteAsync(run, request.CommandName, context.CancellationToken)
            : CommandResults.Failure($"There is no resource `{request.ResourceName}`.");
        return new ResourceCommandResponse
        {
            Kind = result.Success ? ResourceCommandResponseKind.Succeeded : ResourceCommandResponseKind.Failed,
            Message = result.Message ?? "",
        };
    }

    /// <summary>There is nothing to ask the user; but without this call the dashboard takes the connection for lost.</summary>
    public override Task WatchInteractions(
        IAsyncStreamReader<WatchInteractionsRequestUpdate> requestStream, IServerStreamWriter<WatchInteractionsResponseUpdate> responseStream,
        ServerCallContext context)
    {
        Authorize(context);
        return Task.Delay(Timeout.Infinite, context.CancellationToken);
    }

    private void Authorize(ServerCallContext context)
    {
        if (context.RequestHeaders.GetValue("x-resource-service-api-key") != server.ApiKey)
        {
            throw new RpcException(new Status(StatusCode.Unauthenticated, "The API key is missing or wrong."));
        }
    }

    private async Task<IReadOnlyList<DashboardProtocol.Resource>> AllAsync(CancellationToken cancellationToken)
    {
        var all = orchestrator.Runs.Where(run => run.Name != Dashboard.ResourceName).Select(ToMessage).ToList();
        foreach (var connection in orchestrator.ConnectionStrings)
        {
            var message = NewMessage(connection, "ConnectionString", ResourceState.Running, orchestrator.StartedAt);
            message.Properties.Add(Property(
                "resource.connectionString", await connection.ConnectionStringExpression.GetValueAsync(cancellationToken) ?? "", isSensitive: true));
            all.Add(message);
        }

        return all;
    }

    private static DashboardProtocol.Resource ToMessage(ResourceRun run)
    {
        var (resource, status) = (run.Resource, run.Status);
        var message = NewMessage(resource, resource.Kind, status.State, run.CreatedAt);
        message.StateStyle = status.State switch
        {
            ResourceState.Running => "success",
            ResourceState.FailedToStart => "error",
            ResourceState.Exited when status.ExitCode is not 0 => "error",
            _ => "info",
        };
        message.StartedAt = status.StartedAt?.ToTimestamp();
        message.StoppedAt = status.StoppedAt?.ToTimestamp();
        message.Environment.AddRange((status.Environment ?? new Dictionary<string, string>()).Select(variable => new EnvironmentVariable
        {
            Name = variable.Key,
            Value = variable.Value,
            // The dashboard hides what the machine had anyway.
            IsFromSpec = resource.Environment.ContainsKey(variable.Key) || variable.Key == "ASPNETCORE_URLS"
                || variable.Key.StartsWith("OTEL_", StringComparison.Ordinal),
        }));
        message.Urls.AddRange(resource.Endpoints.Select(endpoint => new Url
        {
            EndpointName = endpoint.Name,
            FullUrl = endpoint.Url,
            IsInactive = status.State != ResourceState.Running,
            // Without it the dashboard drops the whole feed.
            DisplayProperties = new UrlDisplayProperties(),
        }));
        if (resource.HealthCheck is { } check && status.State == ResourceState.Running)
        {
            message.HealthReports.Add(new HealthReport
            {
                Key = check.Path,
                Status = status.IsReady ? HealthStatus.Healthy : HealthStatus.Unhealthy,
                Description = status.Problem ?? "",
            });
        }

        message.Commands.AddRange(Commands.Select(command => new ResourceCommand
        {
            Name = command.Name,
            DisplayName = char.ToUpperInvariant(command.Name[0]) + command.Name[1..],
            IconName = command.Icon,
            IsHighlighted = true,
            State = status.IsAlive == (command.Name == "start") ? ResourceCommandState.Hidden : ResourceCommandState.Enabled,
        }));
        message.Commands.AddRange(resource.Commands.Select(command => new ResourceCommand
        {
            Name = command.Name,
            DisplayName = command.DisplayName,
            DisplayDescription = command.Options.Description ?? "",
            IconName = command.Options.IconName ?? "",
            State = status.IsReady ? ResourceCommandState.Enabled : ResourceCommandState.Disabled,
        }));
        message.Relationships.AddRange(resource.WaitsFor.Select(other => new ResourceRelationship { ResourceName = other.Name, Type = "WaitFor" }));
        message.Properties.Add(Property(resource is ProjectResource ? "project.path" : "executable.path", resource.Source));
        if (status.ProcessId is { } processId)
        {
            message.Properties.Add(Property("executable.pid", $"{processId}"));
        }

        if (status.ExitCode is { } exitCode)
        {
            message.Properties.Add(Property("resource.exitCode", $"{exitCode}"));
        }

        return message;
    }

    private static DashboardProtocol.Resource NewMessage(ApplicationModel.Resource resource, string type, ResourceState state, DateTimeOffset createdAt)
    {
        var message = new DashboardProtocol.Resource
        {
            Name = resource.Name,
            DisplayName = resource.Name,
            Uid = resource.Name,
            ResourceType = type,
            State = Enum.GetName(state),
            // Without it, too, the dashboard drops the whole feed.
            CreatedAt = createdAt.ToTimestamp(),
        };
        if (resource.Parent is { } parent)
        {
            message.Properties.Add(Property("resource.parentName", parent.Name));
        }

        return message;
    }

    private static ResourceProperty Property(string name, string value, bool isSensitive = false) =>
        new() { Name = name, Value = Value.ForString(value), IsSensitive = isSensitive };
}
