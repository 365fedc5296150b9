using System.CommandLine;
using Pipeline.Ops.Seed;

var root = new RootCommand("Operate the order pipeline.")
{
    SeedCommand.Create(),
};
return await root.Parse(args).InvokeAsync();
