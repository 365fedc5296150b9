using System.CommandLine;
using System.Security.Cryptography;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.Ops.Tests;

public sealed class LocalKeyTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("local-key-tests-").FullName;

    private string KeyFile => Path.Combine(_folder, LocalKey.PersonalData);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_file_of_the_local_key_holds_the_key_that_the_pipeline_is_given()
    {
        var given = Convert.ToBase64String(LocalKey.In(_folder, LocalKey.PersonalData));
        var endpoints = new Endpoints();

        var ofFile = endpoints.FindPersonalData(new RootCommand { endpoints.PersonalDataKey, endpoints.Aws }.Parse(["--personal-data-key", KeyFile]));

        Assert.Equal(new PersonalDataProtector(given).KeyId, ofFile?.KeyId);
        Assert.Equal(given, Convert.ToBase64String(LocalKey.In(_folder, LocalKey.PersonalData)));
    }

    [Fact]
    public void A_key_of_an_earlier_version_stays_the_key()
    {
        var bytes = RandomNumberGenerator.GetBytes(32);
        File.WriteAllBytes(KeyFile, bytes);

        Assert.Equal(bytes, LocalKey.In(_folder, LocalKey.PersonalData));
    }
}
