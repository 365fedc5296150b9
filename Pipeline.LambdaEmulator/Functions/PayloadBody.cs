using System.Buffers;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>A request's body that is an event or an answer.</summary>
internal static class PayloadBody
{
    /// <summary>Reads at most the payload limit; what is beyond it is read and dropped, so that the sender hears the refusal.</summary>
    public static async Task<(ReadOnlyMemory<byte> Body, bool IsTooLarge)> ReadAsync(HttpContext context)
    {
        var body = new ArrayBufferWriter<byte>((int)Math.Min(context.Request.ContentLength ?? 256, ShardProcessor.PayloadBytesMax) + 1);
        var reader = context.Request.BodyReader;
        var isTooLarge = false;
        while (true)
        {
            var read = await reader.ReadAsync(context.RequestAborted);
            foreach (var piece in read.Buffer)
            {
                isTooLarge |= body.WrittenCount + piece.Length > ShardProcessor.PayloadBytesMax;
                if (!isTooLarge)
                {
                    body.Write(piece.Span);
                }
            }

            reader.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted)
            {
                return (body.WrittenMemory, isTooLarge);
            }
        }
    }
}
