using System.Net;
using System.Net.Sockets;

namespace Pipeline.NativeServers;

public static class LoopbackPorts
{
    private static readonly HashSet<int> Given = [];

    /// <summary>
    /// A port that nothing listens on. The system picks it, so two processes that ask at the same time get different
    /// ones; and it is never given twice by one process, however late the first asker listens on it.
    /// </summary>
    public static int Free()
    {
        lock (Given)
        {
            while (true)
            {
                // Any, not loopback: DynamoDB Local listens on all interfaces.
                using var listener = new TcpListener(IPAddress.Any, 0);
                listener.Start();
                var port = ((IPEndPoint)listener.LocalEndpoint).Port;
                if (Given.Add(port))
                {
                    return port;
                }
            }
        }
    }

    public static bool IsTaken(int port)
    {
        using var client = new TcpClient();
        try
        {
            // On loopback it is accepted or refused at once.
            client.Connect(IPAddress.Loopback, port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
