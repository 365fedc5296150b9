System.Console.WriteLine("Pipeline.OrdersApi");
