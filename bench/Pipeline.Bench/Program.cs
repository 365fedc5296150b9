using System.CommandLine;
using Pipeline.Bench;

// One verb for each benchmark; each prints its figures and ends with 1 where a target is missed.
var root = new RootCommand(
    "Benchmarks of the pipeline. Build with -c Release, and let nothing else run: every report names the load average.")
{
    EmulatorThroughput.Command(),
    EmulatorLatency.Command(),
    StreamServer.Command(),
};
return await root.Parse(args).InvokeAsync();
