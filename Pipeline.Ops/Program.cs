using System.CommandLine;
using Pipeline.Ops.Seed;
using Pipeline.Ops.Sql;
using Pipeline.Ops.Status;

var root = new RootCommand("Operate the order pipeline.")
{
    SeedCommand.Create(),
    StatusCommand.Create(),
    SqlCommand.Create(),
};
return await root.Parse(args).InvokeAsync();
