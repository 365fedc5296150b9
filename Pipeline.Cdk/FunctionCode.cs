using Amazon.CDK;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.S3;
using Constructs;

namespace Pipeline.Cdk;

/// <summary>Where the code of a function comes from.</summary>
public static class FunctionCode
{
    /// <summary>The stand-in for AWS's packages; theirs are Amazon.Lambda.Core.dll and the like.</summary>
    private const string StandIn = "Amazon.Lambda.dll";

    /// <summary>
    /// The published output of <paramref name="project"/>, or a key that does not exist. With
    /// <paramref name="startScript"/> a shell script of that name has to be in it, which starts the program.
    /// </summary>
    /// <exception cref="RefusedException">The project was not published to the folder, or what was does not start in Lambda, or must not.</exception>
    public static Code Of(string project, Construct scope, PipelineStackProps props, string? startScript = null)
    {
        if (props.PublishedFunctions is null)
        {
            return Missing(project, scope, "run-dotnet-publish-first");
        }

        var folder = Path.GetFullPath(Path.Combine(props.PublishedFunctions, project));
        if (!File.Exists(Path.Combine(folder, $"{project}.dll")))
        {
            throw new RefusedException(
                $"Context value 'published' is '{props.PublishedFunctions}', but {folder} does not hold {project}.dll. " +
                $"Publish it first: dotnet publish {project} -o {folder}");
        }

        if (props.IsDeployment && File.Exists(Path.Combine(folder, StandIn)))
        {
            throw new RefusedException(
                $"{folder} holds {StandIn}: it was published without AWS's packages, with the stand-in for them, which is not meant for AWS. " +
                "Delete artifacts/package-set and artifacts/publish, and deploy from a machine whose NuGet has the official packages.");
        }

        if (startScript is not null)
        {
            CheckStartScript(Path.Combine(folder, startScript), project);
        }

        return Code.FromAsset(folder);
    }

    /// <summary>
    /// Code that is not there, for a template that must not be deployed: the same on every machine and with every package
    /// set, because no built file goes into it. The bucket is this account's own, so nobody else can put code under that
    /// key, and deploying the template all the same fails with the key in the message, and so with <paramref name="whatToDo"/>.
    /// </summary>
    public static Code Missing(string project, Construct scope, string whatToDo)
    {
        var assets = Bucket.FromBucketName(scope, $"{project}.Assets", Fn.Sub($"cdk-{DefaultStackSynthesizer.DEFAULT_QUALIFIER}-assets-${{AWS::AccountId}}-${{AWS::Region}}"));
        return Code.FromBucket(assets, $"{whatToDo}/{project}.zip");
    }

    /// <summary>Lambda starts it as another user than its owner.</summary>
    private static void CheckStartScript(string path, string project)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new RefusedException($"{path} has to be executable in Lambda, and Windows cannot say so in an archive. Deploy from Linux, macOS or WSL.");
        }

        if (!File.Exists(path) || !File.GetUnixFileMode(path).HasFlag(UnixFileMode.OtherExecute | UnixFileMode.OtherRead))
        {
            throw new RefusedException(
                $"{path} is not there, or not executable for everybody. It is a copy of {project}/{Path.GetFileName(path)}: chmod 755 that one, and publish again.");
        }
    }
}
