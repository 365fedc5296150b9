System.Console.WriteLine("Pipeline.Ops");
