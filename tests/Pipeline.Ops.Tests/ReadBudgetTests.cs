using Microsoft.Extensions.Time.Testing;

namespace Pipeline.Ops.Tests;

public class ReadBudgetTests
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_was_read_is_paid_for_before_the_next_read()
    {
        var time = new FakeTimeProvider();
        var budget = new ReadBudget(unitsPerSecond: 100, time);

        await budget.WaitAsync(Cancelled);
        budget.Spend(250);
        var wait = budget.WaitAsync(Cancelled);
        time.Advance(TimeSpan.FromSeconds(2.4));
        Assert.False(wait.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(0.2));
        await wait;

        Assert.Equal(250, budget.Spent);
    }

    [Fact]
    public async Task A_pause_is_no_credit_for_a_burst()
    {
        var time = new FakeTimeProvider();
        var budget = new ReadBudget(unitsPerSecond: 100, time);
        budget.Spend(1);
        time.Advance(TimeSpan.FromHours(1));

        budget.Spend(100);
        var wait = budget.WaitAsync(Cancelled);
        Assert.False(wait.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(1.1));
        await wait;
    }

    [Fact]
    public void Without_a_bound_nothing_waits()
    {
        var budget = new ReadBudget(unitsPerSecond: null, new FakeTimeProvider());
        budget.Spend(1_000_000);

        Assert.True(budget.WaitAsync(Cancelled).IsCompletedSuccessfully);
    }
}
