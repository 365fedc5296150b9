using Pipeline.Ops.Reconcile;

namespace Pipeline.Ops.Tests;

public class OptionsTests
{
    [Theory]
    [InlineData("--rate", "fast", "--rate takes a number above zero, not fast.")]
    [InlineData("--rate", "0", "--rate takes a number above zero, not 0.")]
    [InlineData("--segments", "many", "--segments takes a number from 1 to 256, not many.")]
    [InlineData("--segments", "257", "--segments takes a number from 1 to 256, not 257.")]
    public void A_number_that_does_not_do_is_told_and_is_no_defect(string option, string value, string message) =>
        Assert.Contains(message, ReconcileCommand.Create().Parse([option, value]).Errors.Select(error => error.Message));

    [Theory]
    [InlineData("--rate", "0.5")]
    [InlineData("--segments", "256")]
    public void A_number_that_does_is_taken(string option, string value) =>
        Assert.Empty(ReconcileCommand.Create().Parse([option, value]).Errors);
}
