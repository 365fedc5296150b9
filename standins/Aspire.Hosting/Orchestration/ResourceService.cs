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
        void OnChanged(ResourceRun run) => signal.Writer.TryWrite(true);
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
        catch (OperationCanceledException) when (context.CancellationToken.IsCancellationRequested)
        {
            // The dashboard has gone.
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

        try
        {
            await foreach (var line in run.Log.ReadAsync(follow: !request.SuppressFollow, context.CancellationToken))
            {
                var update = new WatchResourceConsoleLogsUpdate();
                update.LogLines.Add(new ConsoleLogLine { LineNumber = line.Number, Text = line.Text, IsStdErr = line.IsError });
                await responseStream.WriteAsync(update, context.CancellationToken);
            }
        }
        catch (OperationCanceledException) when (context.CancellationToken.IsCancellationRequested)
        {
            // The page was closed.
        }
    }

    public override async Task<ResourceCommandResponse> ExecuteResourceCommand(ResourceCommandRequest request, ServerCallContext context)
    {
        Authorize(context);
        var done = orchestrator.Find(request.ResourceName) is { } run && await ResourceServer.ExecuteAsync(run, request.CommandName);
        return done
            ? new ResourceCommandResponse { Kind = ResourceCommandResponseKind.Succeeded }
            : new ResourceCommandResponse
            {
                Kind = ResourceCommandResponseKind.Failed,
                ErrorMessage = $"`{request.ResourceName}` has no command `{request.CommandName}`.",
            };
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
        var status = run.Status;
        var message = NewMessage(run.Resource, run.Resource.Kind, status.State, run.CreatedAt);
        message.StateStyle = status.State switch
        {
            ResourceState.Running or ResourceState.Finished => "success",
            ResourceState.FailedToStart => "error",
            ResourceState.Exited => status.ExitCode is 0 ? "info" : "error",
            _ => "info",
        };
        if (status.StartedAt is { } startedAt)
        {
            message.StartedAt = startedAt.ToTimestamp();
        }

        if (status.StoppedAt is { } stoppedAt)
        {
            message.StoppedAt = stoppedAt.ToTimestamp();
        }

        foreach (var (name, value) in status.Environment ?? new Dictionary<string, string>())
        {
            var isFromModel = run.Resource.Environment.ContainsKey(name) || name is "ASPNETCORE_URLS"
                || name.StartsWith("OTEL_", StringComparison.Ordinal);
            message.Environment.Add(new EnvironmentVariable { Name = name, Value = value, IsFromSpec = isFromModel });
        }

        foreach (var endpoint in run.Resource.Endpoints)
        {
            message.Urls.Add(new Url
            {
                EndpointName = endpoint.Name,
                FullUrl = endpoint.Url,
                IsInactive = status.State != ResourceState.Running,
                DisplayProperties = new UrlDisplayProperties(),
            });
        }

        if (run.Resource.HealthCheck is { } check && status.State == ResourceState.Running)
        {
            message.HealthReports.Add(new HealthReport
            {
                Key = check.Path,
                Status = status.IsReady ? HealthStatus.Healthy : HealthStatus.Unhealthy,
                Description = status.Problem ?? "",
            });
        }

        var alive = status.State is ResourceState.Waiting or ResourceState.Starting or ResourceState.Running or ResourceState.Stopping;
        foreach (var (name, icon) in Commands)
        {
            message.Commands.Add(new ResourceCommand
            {
                Name = name,
                DisplayName = char.ToUpperInvariant(name[0]) + name[1..],
                IconName = icon,
                IsHighlighted = true,
                State = alive == (name == "start") ? ResourceCommandState.Hidden : ResourceCommandState.Enabled,
            });
        }

        message.Relationships.AddRange(run.Resource.Waits.Select(wait => new ResourceRelationship { ResourceName = wait.On.Name, Type = "WaitFor" }));
        if (status.ProcessId is { } processId)
        {
            message.Properties.Add(Property("executable.pid", processId.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        }

        if (status.ExitCode is { } exitCode)
        {
            message.Properties.Add(Property("resource.exitCode", exitCode.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        }

        message.Properties.Add(Property(run.Resource is ProjectResource ? "project.path" : "executable.path", run.Resource.Source));
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
            // Without it the dashboard drops the whole feed.
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
