System.Console.WriteLine("Pipeline.LambdaEmulator");
