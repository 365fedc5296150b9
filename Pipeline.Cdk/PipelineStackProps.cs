using Constructs;

namespace Pipeline.Cdk;

/// <summary>What may differ between two deployments of the stack.</summary>
public sealed record PipelineStackProps
{
    /// <summary>
    /// The folder that holds one `dotnet publish` output per function, named like its project. Null: the template
    /// names code that does not exist, which is all that the local platforms and the tests need.
    /// </summary>
    public string? PublishedFunctions { get; init; }

    /// <summary>The settings in cdk.json and `cdk --context name=value`.</summary>
    public static PipelineStackProps FromContext(Node node) => new()
    {
        PublishedFunctions = node.TryGetContext("published") as string,
    };
}
