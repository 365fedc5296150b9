using Pipeline.Bench;

// The stages of the report in its order; a stage is one file that adds rows.
Stage[] stages =
[
    ChangeFileStage.Stage,
    ColdStartStage.Stage,
    WarehouseStage.Stage,
    EndToEndStage.Stage,
    SustainedStage.Stage,
    ReconcileStage.Stage,
    ApiStage.Stage,
];
var command = BenchRun.Command(stages, [EmulatorThroughput.Command(), EmulatorLatency.Command(), StreamServer.Command(), .. BaselineProcesses.Commands()]);
return await command.Parse(args).InvokeAsync();
