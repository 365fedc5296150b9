using System.Text.Json;
using Amazon.CDK;
using Amazon.CDK.AWS.Apigatewayv2;
using Amazon.CDK.AWS.DynamoDB;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.Logs;
using Amazon.CDK.AWS.SecretsManager;
using Constructs;

namespace Pipeline.Cdk;

public sealed record OrdersApiProps
{
    public required Table Orders { get; init; }

    /// <summary>Whether its table outlives the stack.</summary>
    public required bool Keep { get; init; }
    public required Code Code { get; init; }
    public required RetentionDays LogRetention { get; init; }
    public required int RequestsPerSecond { get; init; }

    /// <summary>Who issues the tokens that callers show; null: nobody, and nobody gets in.</summary>
    public required JwtIssuer? Issuer { get; init; }
}

/// <param name="Url">The `iss` of the tokens, below which the issuer's keys are found.</param>
/// <param name="Audience">The `aud` of the tokens that are meant for this API.</param>
public sealed record JwtIssuer(string Url, string Audience);

/// <summary>
/// The Orders API behind an HTTP API: the same ASP.NET program as everywhere, started by the Lambda Web Adapter,
/// which turns invocations into HTTP requests to it.
/// </summary>
public sealed class OrdersApi : Construct
{
    public const string FunctionName = "orders_api";
    public const string StartScript = "run.sh";

    private const int Port = 8080;

    public Function Function { get; }
    public CfnApi Api { get; }

    /// <summary>Which requests with an Idempotency-Key were answered with what. No stream: it holds no orders.</summary>
    public Table Idempotency { get; }

    public OrdersApi(Construct scope, string id, OrdersApiProps props)
        : base(scope, id)
    {
        Idempotency = new Table(this, "Idempotency", new TableProps
        {
            TableName = Names.IdempotencyTable,
            PartitionKey = new Amazon.CDK.AWS.DynamoDB.Attribute { Name = "idempotency_key", Type = AttributeType.STRING },
            // 0 for the request as a whole, n for the n-th order of a batch.
            SortKey = new Amazon.CDK.AWS.DynamoDB.Attribute { Name = "part", Type = AttributeType.NUMBER },
            BillingMode = BillingMode.PAY_PER_REQUEST,
            // A record ends after two days, and no backup keeps the personal data in it for longer.
            TimeToLiveAttribute = "expires_at",
            DeletionProtection = props.Keep,
            RemovalPolicy = props.Keep ? RemovalPolicy.RETAIN : RemovalPolicy.DESTROY,
        });
        var cursorKey = new Secret(this, "CursorKey", new SecretProps
        {
            SecretName = "order-pipeline/page-cursors",
            Description = "What the Orders API signs page cursors with.",
            // 64 letters and digits are 48 bytes of Base64.
            GenerateSecretString = new SecretStringGenerator { PasswordLength = 64, ExcludePunctuation = true },
        });
        Function = new PipelineFunction(this, "Run", new PipelineFunctionProps
        {
            Name = FunctionName,
            Description = "Orders over HTTP.",
            Code = props.Code,
            Handler = StartScript,
            MemoryMegabytes = 1024,
            // The HTTP API gives up after 30 seconds.
            Timeout = Duration.Seconds(29),
            LogRetention = props.LogRetention,
            // AWS's own layer with the adapter, version 0.9.1; the account is theirs.
            Layer = LayerVersion.FromLayerVersionArn(this, "WebAdapter", $"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:753240598075:layer:LambdaAdapterLayerArm64:25"),
            Environment = new Dictionary<string, string>(Tokens(props.Issuer))
            {
                [Names.Settings.TableName] = props.Orders.TableName,
                [Names.Settings.IdempotencyTableName] = Idempotency.TableName,
                // CloudFormation puts it in when it deploys. Whoever knew it could forge a place in a list of their own.
                [Names.Settings.CursorKey] = cursorKey.SecretValue.UnsafeUnwrap(),
                ["ASPNETCORE_URLS"] = $"http://127.0.0.1:{Port}",
                ["AWS_LAMBDA_EXEC_WRAPPER"] = "/opt/bootstrap",
                ["AWS_LWA_PORT"] = $"{Port}",
                ["AWS_LWA_READINESS_CHECK_PATH"] = "/alive",
            },
            Rights =
            [
                PipelineFunction.Allow(
                    ["dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
                    props.Orders.TableArn),
                // Within a transaction, too, a put asks for the right to put.
                PipelineFunction.Allow(["dynamodb:PutItem", "dynamodb:UpdateItem"], Idempotency.TableArn),
                PipelineFunction.Allow(
                    ["dynamodb:Query"],
                    $"{props.Orders.TableArn}/index/{Names.CustomerIndex}", $"{props.Orders.TableArn}/index/{Names.StatusIndex}"),
            ],
        }).Function;

        Api = new CfnApi(this, "Api", new CfnApiProps { Name = "orders", ProtocolType = "HTTP", Description = "Orders over HTTP." });
        var integration = new CfnIntegration(this, "Integration", new CfnIntegrationProps
        {
            ApiId = Api.Ref,
            IntegrationType = "AWS_PROXY",
            IntegrationUri = Function.FunctionArn,
            PayloadFormatVersion = "2.0",
        });
        var authorizer = props.Issuer is not { } issuer ? null : new CfnAuthorizer(this, "Authorizer", new CfnAuthorizerProps
        {
            ApiId = Api.Ref,
            Name = "tokens",
            AuthorizerType = "JWT",
            IdentitySource = ["$request.header.Authorization"],
            JwtConfiguration = new CfnAuthorizer.JWTConfigurationProperty { Issuer = issuer.Url, Audience = [issuer.Audience] },
        });
        // One route for everything, and it asks who is there: the program's own routes decide the rest.
        _ = new CfnRoute(this, "Route", new CfnRouteProps
        {
            ApiId = Api.Ref,
            RouteKey = "$default",
            Target = $"integrations/{integration.Ref}",
            AuthorizationType = authorizer is null ? "AWS_IAM" : "JWT",
            AuthorizerId = authorizer?.Ref,
        });

        var accessLogs = new LogGroup(this, "AccessLogs", new LogGroupProps
        {
            LogGroupName = "/aws/apigateway/orders",
            Retention = props.LogRetention,
            RemovalPolicy = RemovalPolicy.DESTROY,
        });
        _ = new CfnStage(this, "Stage", new CfnStageProps
        {
            ApiId = Api.Ref,
            StageName = "$default",
            AutoDeploy = true,
            DefaultRouteSettings = new CfnStage.RouteSettingsProperty
            {
                ThrottlingRateLimit = props.RequestsPerSecond,
                ThrottlingBurstLimit = 2 * props.RequestsPerSecond,
                DetailedMetricsEnabled = false,
            },
            AccessLogSettings = new CfnStage.AccessLogSettingsProperty
            {
                DestinationArn = accessLogs.LogGroupArn,
                // Who asked for what, and how it went; nothing of what was sent.
                Format = JsonSerializer.Serialize(new Dictionary<string, string>
                {
                    ["request_id"] = "$context.requestId",
                    ["time"] = "$context.requestTime",
                    ["source_ip"] = "$context.identity.sourceIp",
                    ["method"] = "$context.httpMethod",
                    ["path"] = "$context.path",
                    ["status"] = "$context.status",
                    ["response_bytes"] = "$context.responseLength",
                    ["latency_ms"] = "$context.responseLatency",
                    ["error"] = "$context.error.message",
                }),
            },
        });
        _ = new CfnPermission(this, "Invoke", new CfnPermissionProps
        {
            Action = "lambda:InvokeFunction",
            FunctionName = Function.FunctionName,
            Principal = "apigateway.amazonaws.com",
            SourceArn = $"arn:{Aws.PARTITION}:execute-api:{Aws.REGION}:{Aws.ACCOUNT_ID}:{Api.Ref}/*",
        });
    }

    /// <summary>
    /// The program holds every token against its issuer's keys itself, behind the gateway that has done so, too. Without an
    /// issuer there is nobody whom it believes, and it does not start.
    /// </summary>
    private static Dictionary<string, string> Tokens(JwtIssuer? issuer) => issuer is null ? [] : new()
    {
        ["Authentication__Schemes__Bearer__Authority"] = issuer.Url,
        ["Authentication__Schemes__Bearer__ValidAudiences__0"] = issuer.Audience,
    };
}
