System.Console.WriteLine("Pipeline.AppHost");
