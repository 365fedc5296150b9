using Amazon.CDK;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.S3;
using Constructs;

namespace Pipeline.Cdk;

/// <summary>Where the code of a function comes from.</summary>
public static class FunctionCode
{
    /// <summary>
    /// The published output of <paramref name="project"/>, or a key that does not exist. With
    /// <paramref name="startScript"/> a shell script of that name, which runs the program, is written beside it.
    /// </summary>
    /// <exception cref="DirectoryNotFoundException">The folder was given, but this project was not published to it.</exception>
    public static Code Of(string project, Construct scope, string? publishedFunctions, string? startScript = null)
    {
        if (publishedFunctions is null)
        {
            // The build's template: the same on every machine and with every package set, because no built file
            // goes into it. The bucket is this account's own, so nobody else can put code under that key, and
            // deploying the template by mistake fails with the key in the message.
            var assets = Bucket.FromBucketName(scope, $"{project}.Assets", Fn.Sub($"cdk-{DefaultStackSynthesizer.DEFAULT_QUALIFIER}-assets-${{AWS::AccountId}}-${{AWS::Region}}"));
            return Code.FromBucket(assets, $"run-dotnet-publish-first/{project}.zip");
        }

        var folder = Path.GetFullPath(Path.Combine(publishedFunctions, project));
        if (!File.Exists(Path.Combine(folder, $"{project}.dll")))
        {
            throw new DirectoryNotFoundException(
                $"Context value 'published' is '{publishedFunctions}', but {folder} does not hold {project}.dll. " +
                $"Publish it first: dotnet publish {project} -o {folder}");
        }

        if (startScript is not null)
        {
            WriteStartScript(Path.Combine(folder, startScript), project);
        }

        return Code.FromAsset(folder);
    }

    private static void WriteStartScript(string path, string project)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new PlatformNotSupportedException($"{path} has to be executable in Lambda, and Windows cannot say so in an archive. Deploy from Linux, macOS or WSL.");
        }

        File.WriteAllText(path, $"#!/bin/sh\nexec dotnet {project}.dll\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
            | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
    }
}
