namespace Pipeline.Cdk.Tests.Rules;

internal static class ApiRules
{
    private const string Function = "OrdersApiRunFunction";
    private const string Role = "OrdersApiRunRole";
    private const string Idempotency = "OrdersApiIdempotency";
    private const string Route = "OrdersApiRoute";
    private const string Stage = "OrdersApiStage";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The Orders API is the usual program behind the Web Adapter",
            template =>
            {
                template.Has("AWS::Lambda::Function", """{ "FunctionName": "orders_api", "Runtime": "dotnet10", "Handler": "run.sh", "Timeout": 29, "MemorySize": 1024 }""");
                Assert.Equal("[arn:${AWS::Partition}:lambda:${AWS::Region}:753240598075:layer:LambdaAdapterLayerArm64:25]", TemplateView.Render(template[Function]["Layers"]!));
                Assert.Equal(
                    [
                        $"{Names.Settings.TableName}=${{OrdersTable}}",
                        $"{Names.Settings.IdempotencyTableName}=${{OrdersApiIdempotency}}",
                        $"{Names.Settings.CursorKey}={{{{resolve:secretsmanager:${{OrdersApiCursorKey}}:SecretString:::}}}}",
                        "ASPNETCORE_URLS=http://127.0.0.1:8080",
                        "AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap",
                        "AWS_LWA_PORT=8080",
                        "AWS_LWA_READINESS_CHECK_PATH=/alive",
                    ],
                    TemplateView.Lines(template[Function]["Environment"]!["Variables"]!));
            },
            new Mutant("somebody else's layer", Function, function => function["Layers"]![0] = "arn:aws:lambda:us-east-1:111111111111:layer:LambdaAdapterLayerArm64:25"),
            new Mutant("another port than the adapter's", Function, function => function["Environment"]!["Variables"]!["ASPNETCORE_URLS"] = "http://127.0.0.1:5000")),

        new("The Orders API may do exactly this",
            template => Assert.Equal(
                [
                    "dynamodb:BatchGetItem on ${OrdersTable.Arn}",
                    "dynamodb:DeleteItem on ${OrdersTable.Arn}",
                    "dynamodb:DescribeTable on ${OrdersTable.Arn}",
                    "dynamodb:GetItem on ${OrdersTable.Arn}",
                    "dynamodb:PutItem on ${OrdersApiIdempotency.Arn}",
                    "dynamodb:PutItem on ${OrdersTable.Arn}",
                    $"dynamodb:Query on ${{OrdersTable.Arn}}/index/{Names.CustomerIndex}",
                    $"dynamodb:Query on ${{OrdersTable.Arn}}/index/{Names.StatusIndex}",
                    "dynamodb:UpdateItem on ${OrdersApiIdempotency.Arn}",
                    "dynamodb:UpdateItem on ${OrdersTable.Arn}",
                    "logs:CreateLogStream on ${OrdersApiRunLogs.Arn}",
                    "logs:PutLogEvents on ${OrdersApiRunLogs.Arn}",
                    "xray:PutTelemetryRecords on *",
                    "xray:PutTraceSegments on *",
                ],
                template.RightsOf(Role)),
            new Mutant("may scan", Role, role => Mutant.Statement(role, 3)["Action"] = "dynamodb:Scan"),
            new Mutant("every table", Role, role => Mutant.Statement(role, 2)["Resource"] = "*")),

        new("Idempotency keys are in a table of their own that has no stream and forgets",
            template =>
            {
                template.Has("AWS::DynamoDB::Table",
                    $$"""
                    {
                      "TableName": "{{Names.IdempotencyTable}}",
                      "KeySchema": [{ "AttributeName": "idempotency_key", "KeyType": "HASH" }, { "AttributeName": "part", "KeyType": "RANGE" }],
                      "BillingMode": "PAY_PER_REQUEST",
                      "TimeToLiveSpecification": { "AttributeName": "expires_at", "Enabled": true }
                    }
                    """);
                Assert.DoesNotContain(template[Idempotency], property => property.Key is "StreamSpecification" or "PointInTimeRecoverySpecification");
            },
            new Mutant("records for ever", Idempotency, table => table.Remove("TimeToLiveSpecification")),
            new Mutant("a stream", Idempotency, table => table["StreamSpecification"] = new System.Text.Json.Nodes.JsonObject { ["StreamViewType"] = "NEW_IMAGE" })),

        new("Page cursors are signed with a key that nobody chose",
            template => template.Has("AWS::SecretsManager::Secret",
                """{ "Name": "order-pipeline/page-cursors", "GenerateSecretString": { "PasswordLength": 64, "ExcludePunctuation": true } }"""),
            new Mutant("a known key", "OrdersApiCursorKey", secret =>
            {
                secret.Remove("GenerateSecretString");
                secret["SecretString"] = "secret";
            })),

        new("Nobody gets in without credentials",
            template => Assert.Equal(
                ["ApiId=${OrdersApi}", "AuthorizationType=AWS_IAM", "RouteKey=$default", "Target=integrations/${OrdersApiIntegration}"],
                TemplateView.Lines(Assert.Single(template.All("AWS::ApiGatewayV2::Route")).Properties)),
            new Mutant("an open door", Route, route => route["AuthorizationType"] = "NONE")),

        new("The Orders API is throttled, and its requests are logged without what was sent",
            template =>
            {
                Assert.Equal(
                    ["DetailedMetricsEnabled=false", "ThrottlingBurstLimit=400", "ThrottlingRateLimit=200"],
                    TemplateView.Lines(template[Stage]["DefaultRouteSettings"]!));
                Assert.Equal("${OrdersApiAccessLogs.Arn}", TemplateView.Render(template[Stage]["AccessLogSettings"]?["DestinationArn"]));
                Assert.Equal(
                    """{"request_id":"$context.requestId","time":"$context.requestTime","source_ip":"$context.identity.sourceIp","method":"$context.httpMethod","path":"$context.path","status":"$context.status","response_bytes":"$context.responseLength","latency_ms":"$context.responseLatency","error":"$context.error.message"}""",
                    (string)template[Stage]["AccessLogSettings"]!["Format"]!);
            },
            new Mutant("no throttling", Stage, stage => stage.Remove("DefaultRouteSettings")),
            new Mutant("no access log", Stage, stage => stage.Remove("AccessLogSettings"))),

        new("Only this API invokes the function",
            template => Assert.Equal(
                [
                    "Action=lambda:InvokeFunction",
                    "FunctionName=${OrdersApiRunFunction}",
                    "Principal=apigateway.amazonaws.com",
                    "SourceArn=arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${OrdersApi}/*",
                ],
                TemplateView.Lines(Assert.Single(template.All("AWS::Lambda::Permission")).Properties)),
            new Mutant("anybody's API", "OrdersApiInvoke", permission => permission.Remove("SourceArn"))),
    ];
}
