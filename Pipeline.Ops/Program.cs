using System.CommandLine;
using Pipeline.Ops;
using Pipeline.Ops.Backfill;
using Pipeline.Ops.Compact;
using Pipeline.Ops.Quarantine;
using Pipeline.Ops.Reconcile;
using Pipeline.Ops.Replay;
using Pipeline.Ops.Seed;
using Pipeline.Ops.Sql;
using Pipeline.Ops.Status;

var root = new RootCommand("Operate the order pipeline.")
{
    SeedCommand.Create(),
    TokenCommand.Create(),
    StatusCommand.Create(),
    SqlCommand.Create(),
    QuarantineCommand.Create(),
    ReconcileCommand.Create(),
    BackfillCommand.Create(),
    ReplayCommands.CreateReplay(),
    ReplayCommands.CreateRebuild(),
    CompactCommand.Create(),
};

// A command line that cannot be understood is 2 as in most programs: 1 is a finding of some commands.
var parsed = root.Parse(args);
var exitCode = await parsed.InvokeAsync();
return parsed.Errors.Count == 0 ? exitCode : 2;
