namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// Headers of every answer, errors included: nothing may be guessed, framed, kept by a cache that others use, or
/// asked for without TLS once it was asked for with it (OWASP's REST security cheat sheet).
/// </summary>
internal static class ResponseHeaders
{
    /// <summary>Below it the documentation is a page for browsers; everything else is no page and may load nothing.</summary>
    public const string DocsPath = "/docs";

    private const string NoPage = "default-src 'none'; frame-ancestors 'none'";
    private const string Page = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'";

    public static void UseResponseHeaders(this IApplicationBuilder app) => app.Use((http, next) =>
    {
        // At the last moment: an exception's handler begins with an empty answer.
        http.Response.OnStarting(() =>
        {
            var headers = http.Response.Headers;
            headers.XContentTypeOptions = "nosniff";
            headers.XFrameOptions = "DENY";
            headers["Referrer-Policy"] = "no-referrer";
            headers.ContentSecurityPolicy = http.Request.Path.StartsWithSegments(DocsPath) ? Page : NoPage;
            if (headers.CacheControl.Count == 0)
            {
                headers.CacheControl = "no-store";
            }

            // Behind API Gateway the request comes over TLS and arrives without.
            if (http.Request.IsHttps || http.Request.Headers["X-Forwarded-Proto"] == "https")
            {
                headers.StrictTransportSecurity = "max-age=31536000; includeSubDomains";
            }

            return Task.CompletedTask;
        });
        return next(http);
    });
}
