System.Console.WriteLine("Pipeline.Cdk");
