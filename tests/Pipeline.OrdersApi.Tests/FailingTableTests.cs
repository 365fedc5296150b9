using System.Net;
using System.Text;

namespace Pipeline.OrdersApi.Tests;

public sealed class FailingTableTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly OrdersApi _api = new(database);

    public ValueTask InitializeAsync() => _api.InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task A_creation_whose_answer_from_the_table_is_lost_is_still_a_201_and_one_version()
    {
        _api.Network.LoseAnswerOf("PutItem");

        var created = await _api.CreateAsync(OrdersApi.SampleOrder("lost"));

        Assert.Equal((HttpStatusCode.Created, "\"1\""), (created.Status, created.ETag));
        Assert.Equal(created.Body, (await _api.GetAsync("lost")).Body);
    }

    [Theory]
    [InlineData("\"1\"")]
    [InlineData("*")]
    public async Task A_status_change_whose_answer_from_the_table_is_lost_is_done_once_and_answered_with_200(string ifMatch)
    {
        var orderId = await _api.CreatedAsync();
        _api.Network.LoseAnswerOf("UpdateItem");

        var changed = await _api.ChangeStatusAsync(orderId, "approved", ifMatch);

        Assert.Equal((HttpStatusCode.OK, "\"2\""), (changed.Status, changed.ETag));
        Assert.Equal(changed.Body, (await _api.GetAsync(orderId)).Body);
    }

    [Theory]
    [InlineData("\"1\"")]
    [InlineData("*")]
    public async Task A_correction_whose_answer_from_the_table_is_lost_is_done_once_and_answered_with_200(string ifMatch)
    {
        var orderId = await _api.CreatedAsync();
        _api.Network.LoseAnswerOf("UpdateItem");

        var changed = await _api.SendAsync(HttpMethod.Patch, $"/orders/{orderId}", """{"customer":{"city":"Olinda"}}""", ifMatch);

        Assert.Equal((HttpStatusCode.OK, "\"2\""), (changed.Status, changed.ETag));
        Assert.Equal(changed.Body, (await _api.GetAsync(orderId)).Body);
    }

    [Fact]
    public async Task A_removal_whose_answer_from_the_table_is_lost_has_removed_the_order()
    {
        var orderId = await _api.CreatedAsync();
        _api.Network.LoseAnswerOf("DeleteItem");

        (await _api.DeleteAsync(orderId, "\"1\"")).Problem(HttpStatusCode.NotFound, "order-not-found");

        Assert.Null(await _api.ItemAsync(orderId));
    }

    [Theory]
    [InlineData("refused")]
    [InlineData("throttled")]
    [InlineData("broken")]
    [InlineData("silent")]
    public async Task A_table_that_does_not_serve_is_a_503_that_says_when_to_come_again(string how)
    {
        var orderId = await _api.CreatedAsync();
        _api.Network.OnCall = (_, _) => how switch
        {
            "refused" => throw new HttpRequestException("Connection refused"),
            "throttled" => AnswerAsync(HttpStatusCode.BadRequest, "ProvisionedThroughputExceededException"),
            "broken" => AnswerAsync(HttpStatusCode.InternalServerError, "InternalServerError"),
            _ => throw new TaskCanceledException("The request timed out"),
        };

        Answer[] answers =
        [
            await _api.CreateAsync(OrdersApi.SampleOrder()),
            await _api.GetAsync(orderId),
            await _api.SendAsync(HttpMethod.Get, "/orders?customer_id=customer-1"),
            await _api.ChangeStatusAsync(orderId, "approved", "*"),
            await _api.DeleteAsync(orderId, "*"),
        ];

        foreach (var answer in answers)
        {
            answer.Problem(HttpStatusCode.ServiceUnavailable, "table-unavailable");
            Assert.Equal("1", answer.RetryAfter);
        }

        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await _api.SendAsync(HttpMethod.Get, "/health")).Status);
        Assert.Equal(HttpStatusCode.OK, (await _api.SendAsync(HttpMethod.Get, "/alive")).Status);
    }

    [Fact]
    public async Task Health_is_asked_of_the_table_once_for_all_who_ask_at_the_same_time()
    {
        var calls = 0;
        _api.Network.OnCall = (_, send) =>
        {
            Interlocked.Increment(ref calls);
            return send();
        };

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => _api.SendAsync(HttpMethod.Get, "/health")));

        Assert.All(answers, answer => Assert.Equal((HttpStatusCode.OK, "Healthy"), (answer.Status, answer.Body)));
        Assert.Equal(1, calls);
    }

    private static Task<HttpResponseMessage> AnswerAsync(HttpStatusCode status, string error) => Task.FromResult(new HttpResponseMessage(status)
    {
        Content = new StringContent($$"""{"__type":"com.amazonaws.dynamodb.v20120810#{{error}}","message":"Not now."}""", Encoding.UTF8, "application/x-amz-json-1.0"),
    });
}
