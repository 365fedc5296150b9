using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests.Rules;

internal static class ApiRules
{
    private const string Function = "OrdersApiRunFunction";
    private const string Role = "OrdersApiRunRole";
    private const string Stage = "OrdersApiStage";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The Orders API is the usual program behind the Web Adapter, with a role of its own",
            template => template.Is(
                Function,
                "Architectures=[arm64]",
                "Code={S3Bucket=cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}, S3Key=run-dotnet-publish-first/Pipeline.OrdersApi.zip}",
                "Environment: Pipeline__TableName=${OrdersTable}",
                "Environment: Pipeline__IdempotencyTableName=${OrdersApiIdempotency}",
                "Environment: Pipeline__CursorKey={{resolve:secretsmanager:${OrdersApiCursorKey}:SecretString:::}}",
                "Environment: ASPNETCORE_URLS=http://127.0.0.1:8080",
                "Environment: AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap",
                "Environment: AWS_LWA_PORT=8080",
                "Environment: AWS_LWA_READINESS_CHECK_PATH=/alive",
                "FunctionName=orders_api",
                "Handler=run.sh",
                "Layers=[arn:${AWS::Partition}:lambda:${AWS::Region}:753240598075:layer:LambdaAdapterLayerArm64:25]",
                "LoggingConfig={LogGroup=${OrdersApiRunLogs}}",
                "MemorySize=1024",
                "Role=${OrdersApiRunRole.Arn}",
                "Runtime=dotnet10",
                "Timeout=29",
                "TracingConfig={Mode=Active}",
                "DependsOn=[OrdersApiRunRole]"),
            new Mutant("somebody else's layer", Function, function => function["Layers"]![0] = "arn:aws:lambda:us-east-1:111111111111:layer:LambdaAdapterLayerArm64:25"),
            new Mutant("another processor than the layer's", Function, function => function["Architectures"]![0] = "x86_64"),
            new Mutant("the loader's role", Function, function => function["Role"]!["Fn::GetAtt"]![0] = "LoaderRunRoleBA16DACA"),
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

        new("Page cursors are signed with a key that nobody chose",
            template => template.Is(
                "OrdersApiCursorKey",
                "GenerateSecretString={ExcludePunctuation=true, PasswordLength=64}",
                "Name=order-pipeline/page-cursors",
                "UpdateReplacePolicy=Delete",
                "DeletionPolicy=Delete"),
            new Mutant("a known key", "OrdersApiCursorKey", secret =>
            {
                secret.Remove("GenerateSecretString");
                secret["SecretString"] = "secret";
            })),

        new("Nobody gets in without credentials",
            template => template.Are(
                "AWS::ApiGatewayV2::Route",
                "OrdersApiRoute: ApiId=${OrdersApi}, AuthorizationType=AWS_IAM, RouteKey=$default, Target=integrations/${OrdersApiIntegration}"),
            new Mutant("an open door", "OrdersApiRoute", route => route["AuthorizationType"] = "NONE")),

        new("Every request goes to the one function",
            template =>
            {
                template.Is(
                    "OrdersApi",
                    "Name=orders",
                    "ProtocolType=HTTP");
                template.Are(
                    "AWS::ApiGatewayV2::Integration",
                    "OrdersApiIntegration: ApiId=${OrdersApi}, IntegrationType=AWS_PROXY, IntegrationUri=${OrdersApiRunFunction.Arn}, PayloadFormatVersion=2.0");
            },
            new Mutant("another function", "OrdersApiIntegration", integration => integration["IntegrationUri"]!["Fn::GetAtt"]![0] = "LoaderRunFunctionF2B9C1B4"),
            new Mutant("a form of request that the program does not know", "OrdersApiIntegration", integration => integration["PayloadFormatVersion"] = "1.0"),
            new Mutant("scripts of every page", "OrdersApi", api => api["CorsConfiguration"] = new JsonObject { ["AllowOrigins"] = new JsonArray("*") })),

        new("The Orders API is throttled, and its requests are logged without what was sent",
            template => template.Are(
                "AWS::ApiGatewayV2::Stage",
                """OrdersApiStage: AccessLogSettings={DestinationArn=${OrdersApiAccessLogs.Arn}, Format={"request_id":"$context.requestId","time":"$context.requestTime","source_ip":"$context.identity.sourceIp","method":"$context.httpMethod","path":"$context.path","status":"$context.status","response_bytes":"$context.responseLength","latency_ms":"$context.responseLatency","error":"$context.error.message"}}, ApiId=${OrdersApi}, AutoDeploy=true, DefaultRouteSettings={DetailedMetricsEnabled=false, ThrottlingBurstLimit=400, ThrottlingRateLimit=200}, StageName=$default"""),
            new Mutant("no throttling", Stage, stage => stage.Remove("DefaultRouteSettings")),
            new Mutant("a route above the throttle", Stage, stage => stage["RouteSettings"] = new JsonObject { ["$default"] = new JsonObject { ["ThrottlingRateLimit"] = 10_000 } }),
            new Mutant("changes that nobody deploys", Stage, stage => stage["AutoDeploy"] = false),
            new Mutant("no access log", Stage, stage => stage.Remove("AccessLogSettings"))),

        new("Only this API invokes the function",
            template => template.Are(
                "AWS::Lambda::Permission",
                "OrdersApiInvoke: Action=lambda:InvokeFunction, FunctionName=${OrdersApiRunFunction}, Principal=apigateway.amazonaws.com, SourceArn=arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${OrdersApi}/*"),
            new Mutant("anybody's API", "OrdersApiInvoke", permission => permission.Remove("SourceArn"))),
    ];
}
