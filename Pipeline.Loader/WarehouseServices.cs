using Microsoft.Extensions.Options;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>Which warehouse it is: the connection string says so.</summary>
internal static class WarehouseServices
{
    public const string ConnectionStringName = "warehouse";

    /// <exception cref="InvalidOperationException">A setting is missing; the message names it and says how to mend it.</exception>
    public static void AddWarehouse(this IHostApplicationBuilder builder)
    {
        var given = builder.Configuration.GetConnectionString(ConnectionStringName);
        if (string.IsNullOrWhiteSpace(given))
        {
            throw new InvalidOperationException(
                $"The setting ConnectionStrings__{ConnectionStringName} is not set. Set it to the warehouse's connection string, " +
                "for example Host=127.0.0.1;Port=15432;Database=warehouse;Username=postgres.");
        }

        if (RedshiftWarehouse.IsMeant(given))
        {
            builder.AddRedshift(given);
        }
        else
        {
            builder.Services.AddNpgsqlDataSource(PostgresWarehouse.ConnectionString(given));
            builder.Services.AddSingleton<IWarehouse, PostgresWarehouse>();
            builder.Services.AddSingleton<IMigrator, Migrator>();
        }
    }

    private static void AddRedshift(this IHostApplicationBuilder builder, string given)
    {
        var copyRole = builder.Configuration[Names.Settings.Key(Names.Settings.WarehouseCopyRoleArn)];
        if (string.IsNullOrWhiteSpace(copyRole))
        {
            throw new InvalidOperationException(
                $"{Names.Settings.WarehouseCopyRoleArn} is not set. Set it to the ARN of the role that Redshift reads the bucket with, " +
                "for example arn:aws:iam::123456789012:role/warehouse-copy.");
        }

        var password = builder.Password();
        builder.Services.AddSingleton(_ => RedshiftWarehouse.DataSource(given, password is null ? null : password.GetAsync));
        builder.Services.AddSingleton<IWarehouse>(services => new RedshiftWarehouse(
            services.GetRequiredService<NpgsqlDataSource>(),
            services.GetRequiredService<IObjectStore>(),
            services.GetRequiredService<IOptions<LoaderOptions>>().Value.BucketName,
            copyRole));
        builder.Services.AddSingleton<IMigrator, RedshiftMigrator>();
    }

    private static WarehousePassword? Password(this IHostApplicationBuilder builder)
    {
        var secretArn = builder.Configuration[Names.Settings.Key(Names.Settings.WarehouseSecretArn)];
        if (string.IsNullOrWhiteSpace(secretArn))
        {
            return null;
        }

        return new WarehousePassword(
            SecretsExtension.From(
                name => builder.Configuration[name], Names.Settings.WarehouseSecretArn, $"put the password into ConnectionStrings__{ConnectionStringName}"),
            secretArn);
    }
}
