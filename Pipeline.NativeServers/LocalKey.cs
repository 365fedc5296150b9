using System.Security.Cryptography;
using System.Text;

namespace Pipeline.NativeServers;

/// <summary>
/// Secrets of this machine's own pipeline: random bytes in a file that only its user can read, kept between runs. They stand there
/// in Base64, the form in which settings have them, so the file can also be given where a file with the key is asked for.
/// </summary>
public static class LocalKey
{
    /// <summary>Beside the servers' data: what personal data is protected with here.</summary>
    public const string PersonalData = "personal-data.key";

    private const int KeyBytes = 32;

    /// <summary>The key in this folder; made at the first call.</summary>
    public static byte[] In(string folder, string name)
    {
        Directory.CreateDirectory(folder);
        var file = Path.Combine(folder, name);
        try
        {
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            }

            using var stream = new FileStream(file, options);
            stream.Write(Encoding.ASCII.GetBytes(Convert.ToBase64String(RandomNumberGenerator.GetBytes(KeyBytes))));
        }
        catch (IOException) when (File.Exists(file))
        {
            // It was there.
        }

        return Find(folder, name)!;
    }

    /// <summary>Null where no key was made yet.</summary>
    public static byte[]? Find(string folder, string name)
    {
        var file = Path.Combine(folder, name);
        if (!File.Exists(file))
        {
            return null;
        }

        var content = File.ReadAllBytes(file);

        // Versions before this one wrote the bytes themselves. Their keys are in use.
        return content.Length == KeyBytes ? content : Convert.FromBase64String(Encoding.ASCII.GetString(content));
    }
}
