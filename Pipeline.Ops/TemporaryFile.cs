namespace Pipeline.Ops;

/// <summary>Files for what does not fit into memory, which are gone when their handle is, also that of a process that was killed.</summary>
internal static class TemporaryFile
{
    /// <param name="folder">Where it lies; made when it is not there.</param>
    /// <param name="kind">Begins its name.</param>
    /// <param name="bufferBytes">Of the stream.</param>
    public static FileStream Create(string folder, string kind, int bufferBytes)
    {
        Directory.CreateDirectory(folder);
        var path = Path.Combine(folder, $"{kind}-{Guid.NewGuid():N}");
        var file = new FileStream(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferBytes, FileOptions.DeleteOnClose);

        // Windows itself watches over DeleteOnClose. Elsewhere .NET does, and does not survive a kill; but there a file that
        // is open needs no name.
        if (!OperatingSystem.IsWindows())
        {
            File.Delete(path);
        }

        return file;
    }
}
