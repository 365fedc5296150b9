System.Console.WriteLine("Pipeline.Loader");
