using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>Settings under <c>Pipeline</c>; only the bucket has to be given.</summary>
public sealed class LoaderOptions
{
    public const string Section = "Pipeline";

    public string BucketName { get; set; } = "";

    /// <summary>Pause between two looks for new files when there were none. Half of it is the mean wait of a change.</summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromMilliseconds(200);

    /// <summary>How often everything in <see cref="SweepWindow"/> is compared with the ledger.</summary>
    public TimeSpan SweepInterval { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>The stream keeps a change for 24 hours, so a file for an hour before that is not written any more; two hours for clocks.</summary>
    public TimeSpan SweepWindow { get; set; } = TimeSpan.FromHours(26);

    /// <summary>How often all files there are get compared with the ledger: replayed, restored or copied ones lie anywhere.</summary>
    public TimeSpan FullSweepInterval { get; set; } = TimeSpan.FromHours(6);

    /// <summary>Bounds of one transaction; whichever is reached first. A larger file is loaded alone.</summary>
    public LoadLimits Limits { get; set; } = new();

    /// <summary>Downloads at once.</summary>
    public int DownloadParallelism { get; set; } = 8;

    /// <summary>
    /// Files not tried yet that are kept in memory (about 0.5 KB each); beyond it looking for more waits, for a sweep at
    /// half of it. As many that fail are kept besides, and never keep the loader from looking.
    /// </summary>
    public int PendingMax { get; set; } = 20_000;

    /// <summary>
    /// How often the changes that wait behind a parked one are looked at, by this loader or another: one query of the
    /// warehouse, and only when some wait one listing of the quarantine.
    /// </summary>
    public TimeSpan ReleaseInterval { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>Waiting changes that are let in at once. With documents of 400 KB, the largest that there are, they take 400 MB.</summary>
    public int ReleaseMax { get; set; } = 1_000;

    /// <summary>
    /// Changes that are put into quarantine in one turn, each with some 20 transactions and as many requests. A warehouse
    /// that refuses more than that is most likely wrong itself, so the rest waits, as files that fail, for somebody to look;
    /// each later try of such a file puts as many more there, so what is good of it is loaded in the end.
    /// </summary>
    public int ParkedMax { get; set; } = 100;

    /// <summary>First and longest pause before the next try, for a file that fails and for a store or warehouse that is away.</summary>
    public TimeSpan RetryFirst { get; set; } = TimeSpan.FromSeconds(1);
    public TimeSpan FileRetryMax { get; set; } = TimeSpan.FromMinutes(5);
    public TimeSpan OutageRetryMax { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>How long the warehouse may stay away at the start before the loader gives up and ends.</summary>
    public TimeSpan StartupPatience { get; set; } = TimeSpan.FromMinutes(5);
}

/// <param name="BytesMax">Of the files as they lie in the bucket; unpacked in memory it is some ten times that.</param>
/// <param name="FilesMax">Files of one transaction.</param>
/// <param name="RowsMax">Changes of one transaction.</param>
public sealed record LoadLimits(long BytesMax = 16L << 20, int FilesMax = 500, int RowsMax = 100_000)
{
    /// <summary>The n-th part of each, at least 1.</summary>
    public LoadLimits Part(int parts) => new(Math.Max(BytesMax / parts, 1), Math.Max(FilesMax / parts, 1), Math.Max(RowsMax / parts, 1));
}

/// <summary>An error names the setting, what it got and how to mend it.</summary>
public sealed class LoaderOptionsValidator : IValidateOptions<LoaderOptions>
{
    public ValidateOptionsResult Validate(string? name, LoaderOptions options)
    {
        var errors = new List<string>();
        if (string.IsNullOrWhiteSpace(options.BucketName))
        {
            errors.Add($"{Names.Settings.BucketName} is not set. Set it to the name of the pipeline's bucket, " +
                       $"for example {Names.BucketFor(Names.LocalAccount, "us-east-1")}.");
        }

        Positive(nameof(options.PollInterval), options.PollInterval);
        Positive(nameof(options.SweepInterval), options.SweepInterval);
        Positive(nameof(options.SweepWindow), options.SweepWindow);
        Positive(nameof(options.FullSweepInterval), options.FullSweepInterval);
        Positive(nameof(options.ReleaseInterval), options.ReleaseInterval);
        Positive(nameof(options.RetryFirst), options.RetryFirst);
        Positive(nameof(options.FileRetryMax), options.FileRetryMax);
        Positive(nameof(options.OutageRetryMax), options.OutageRetryMax);
        Positive(nameof(options.StartupPatience), options.StartupPatience);
        AtLeast(1, nameof(options.DownloadParallelism), options.DownloadParallelism);
        AtLeast(2, nameof(options.PendingMax), options.PendingMax);
        AtLeast(1, nameof(options.ReleaseMax), options.ReleaseMax);
        AtLeast(1, nameof(options.ParkedMax), options.ParkedMax);
        AtLeast(1, "Limits:BytesMax", options.Limits.BytesMax);
        AtLeast(1, "Limits:FilesMax", options.Limits.FilesMax);
        AtLeast(1, "Limits:RowsMax", options.Limits.RowsMax);
        return errors.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(errors);

        void Positive(string setting, TimeSpan value)
        {
            if (value <= TimeSpan.Zero)
            {
                errors.Add($"{LoaderOptions.Section}:{setting} is {value}. Set it to a time above zero, for example 00:00:01.");
            }
        }

        void AtLeast(long least, string setting, long value)
        {
            if (value < least)
            {
                errors.Add($"{LoaderOptions.Section}:{setting} is {value}. Set it to {least} or more.");
            }
        }
    }
}
