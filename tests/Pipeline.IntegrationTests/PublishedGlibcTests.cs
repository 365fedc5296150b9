using System.Text.RegularExpressions;

namespace Pipeline.IntegrationTests;

/// <summary>eng/check-glibc.sh, which ends every publish of the native program.</summary>
public sealed class PublishedGlibcTests
{
    // A program of this machine that is linked against its glibc: the oldest version for x64 is 2.2.5, for Arm 2.17.
    private static readonly string Program = PublishedFunctions.Dotnet;

    [Fact]
    public async Task A_program_that_needs_a_newer_glibc_is_refused()
    {
        var (exitCode, output) = await CheckAsync(Program, "2.2", PathWithObjdump());

        Assert.Equal(1, exitCode);
        Assert.Matches(@"needs GLIBC_2\.[0-9.]+, and Lambda's operating system has 2\.2: publish it on an older system", output);
    }

    [Fact]
    public async Task One_that_needs_an_older_or_just_that_glibc_passes()
    {
        var (exitCode, output) = await CheckAsync(Program, "2.1000", PathWithObjdump());
        Assert.True(exitCode == 0, output);
        var needed = Regex.Match(output, @"needs GLIBC_([0-9.]+);").Groups[1].Value;

        (exitCode, output) = await CheckAsync(Program, needed, PathWithObjdump());
        Assert.True(exitCode == 0, output);
    }

    [Fact]
    public async Task What_is_no_program_for_glibc_does_not_pass()
    {
        var (exitCode, output) = await CheckAsync(typeof(PublishedGlibcTests).Assembly.Location, "2.34", PathWithObjdump());

        Assert.Equal(1, exitCode);
        Assert.Contains("names no symbol of glibc at all", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_objdump_it_names_the_package_to_install()
    {
        var (exitCode, output) = await CheckAsync(Program, "2.34", path: "/nonexistent");

        Assert.Equal(1, exitCode);
        Assert.Contains("objdump not found in PATH", output, StringComparison.Ordinal);
        Assert.Contains("binutils", output, StringComparison.Ordinal);
    }

    /// <summary>That of this process, with objdump on it; or else the test is skipped.</summary>
    private static string PathWithObjdump()
    {
        Assert.SkipUnless(PublishedFunctions.CanBeNativeHere, PublishedFunctions.OnlyForGlibc);
        var path = Environment.GetEnvironmentVariable("PATH") ?? "";
        Assert.SkipUnless(
            path.Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, "objdump"))),
            "There is no objdump on the PATH: apt-get install binutils");
        return path;
    }

    private static Task<(int ExitCode, string Output)> CheckAsync(string program, string version, string path)
    {
        Assert.SkipUnless(PublishedFunctions.CanBeNativeHere, PublishedFunctions.OnlyForGlibc);
        return PublishedFunctions.RunAsync(
            "/bin/sh",
            [PublishedFunctions.InRepository(Path.Combine("eng", "check-glibc.sh")), program, version],
            new() { ["PATH"] = path },
            TestContext.Current.CancellationToken);
    }
}
